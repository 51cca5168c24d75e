//! Answers of several tokens, and the loss of prompts: against the chain rule, whose every factor is another
//! prompt's readout of one token.

use headlight::backend::Readout;
use headlight::backend::cpu::Cpu;
use headlight::check::check_pair;
use headlight::engine::Engine;
use headlight::execute::Limits;
use headlight::execute::costs::Costing;
use headlight::model::Config;
use headlight::patch::{Op, Run};
use headlight::prompt::pair::{Pair, PairRuns};
use headlight::results::metric::Metric;
use proptest::prelude::*;

use crate::common::model::{ModelSpec, model};
use crate::common::runs::{PairSpec, PatchSpec, pair, run_of, runs};
use crate::common::{PLENTY, Random, bits, cases, limits, try_run_within};

/// Random answers: some go on alike, some are single tokens, some begin others.
fn answers(config: &Config, seed: u64, most: usize) -> (Vec<Vec<u32>>, Vec<Vec<u32>>) {
    let mut random = Random(seed);
    let mut all: Vec<Vec<u32>> = Vec::new();
    for _ in 0..2 + random.below(4) {
        let length = 1 + random.below(most);
        let begun: Vec<u32> = match all.len() {
            0 => Vec::new(),
            n => all[random.below(n)]
                .iter()
                .copied()
                .take(random.below(3))
                .collect(),
        };
        let more = (begun.len()..length).map(|_| random.below(config.vocab) as u32);
        let answer: Vec<u32> = begun
            .iter()
            .copied()
            .take(length)
            .chain(more.collect::<Vec<_>>())
            .collect();
        if !all.contains(&answer) {
            all.push(answer);
        }
    }
    let wrong = all.split_off(1 + random.below(all.len()));
    (all, wrong)
}

/// A pair read at its end, with answers that fit behind its prompts.
fn asked(spec: &PairSpec, config: &Config, seed: u64) -> Option<Pair> {
    let pair = Pair {
        readouts: Vec::new(),
        ..spec.resolve(config)
    };
    let longest = pair
        .base
        .len()
        .max(pair.source.as_ref().map_or(0, Vec::len));
    let most = (config.context - longest + 1).min(4);
    let (targets, wrong) = answers(config, seed, most);
    let pair = pair.answered(&targets, &wrong);
    check_pair(&pair, config).ok()?;
    Some(pair)
}

/// Such a pair, and runs of it.
fn questioned(
    spec: &PairSpec,
    patches: &[Vec<PatchSpec>],
    config: &Config,
    seed: u64,
) -> Result<(Pair, Vec<Run>), TestCaseError> {
    let pair = asked(spec, config, seed);
    let pair = pair.ok_or_else(|| TestCaseError::reject("an answer stands twice"))?;
    let resolve =
        |run: &Vec<PatchSpec>| run_of(run.iter().map(|p| p.resolve(&pair, config)).collect());
    let runs = patches.iter().map(resolve).collect();
    Ok((pair, runs))
}

/// What an answer's token of this index is the target of: the prompt with the tokens before it.
fn factor(pair: &Pair, answer: &[u32], index: usize) -> Pair {
    let on = |ids: &Vec<u32>| [&ids[..], &answer[..index]].concat();
    Pair {
        base: on(&pair.base),
        // as long as its own prompt is where it is read
        source: pair.source.clone(),
        targets: vec![answer[index]],
        ..Pair::default()
    }
}

/// Whether what a patch does hangs on the whole prompt's tokens or length, so that the oracle's prompts are others.
fn of_whole_prompt(run: &Run) -> bool {
    run.patches.iter().any(|patch| match &patch.op {
        Op::Noise { .. } => true,
        Op::Mean(over) => over.by_position,
        _ => false,
    })
}

fn joint_is_the_chain(
    spec: &ModelSpec,
    pair: &PairSpec,
    patches: &[Vec<PatchSpec>],
    seed: u64,
) -> Result<(), TestCaseError> {
    let checkpoint = spec.open();
    let config = &checkpoint.config;
    let (pair, mut runs) = questioned(pair, patches, config, seed)?;
    runs.retain(|run| !of_whole_prompt(run));
    let cpu = Cpu::<f64>::new(&checkpoint);
    let read = |pairs: &[PairRuns]| {
        let never = std::sync::atomic::AtomicBool::new(false);
        try_run_within(&cpu, pairs, &limits(&never)).unwrap()
    };
    let with = |pair: Pair| PairRuns {
        pair,
        runs: runs.clone().into(),
    };
    let outcome = read(&[with(pair.clone())]);
    prop_assert_eq!(outcome.plan.count, runs.len());
    let found = &outcome.pairs[0];
    let source = Pair {
        base: pair.source.clone().unwrap(),
        source: None,
        ..pair.clone()
    };
    for answer in 0..pair.answers().len() {
        let tokens = pair.answer_tokens(answer);
        let factors = |pair: &Pair| -> Vec<PairRuns> {
            let all = (0..tokens.len()).map(|i| with(factor(pair, &tokens, i)));
            all.collect()
        };
        let chain = read(&factors(&pair)).pairs;
        let sum = |of: &dyn Fn(usize) -> Readout| -> f64 {
            (0..tokens.len()).map(|i| of(i).log_probability_of(0)).sum()
        };
        let same = |readout: &Readout, want: f64, what: String| {
            let got = readout.log_probability_of(answer);
            let near = got == want || (got - want).abs() <= 1e-12 * want.abs().max(1.0);
            prop_assert!(
                near || got.is_nan() && want.is_nan(),
                "{what}: {got}, not {want}"
            );
            Ok(())
        };
        if pair.further_tokens.is_empty() {
            prop_assert!(found.base[0].joint.is_empty());
        }
        same(
            &found.base[0],
            sum(&|i| chain[i].base[0].clone()),
            "base".into(),
        )?;
        for run in 0..runs.len() {
            same(
                &found.runs[run][0],
                sum(&|i| chain[i].runs[run][0].clone()),
                format!("run {run}"),
            )?;
        }
        let without = |pair: Pair| PairRuns {
            pair,
            runs: [].into(),
        };
        let all = (0..tokens.len()).map(|i| without(factor(&source, &tokens, i)));
        let chain = read(&all.collect::<Vec<_>>()).pairs;
        let readout = found.source.as_ref().unwrap();
        same(readout, sum(&|i| chain[i].base[0].clone()), "source".into())?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { max_global_rejects: 10_000, ..cases(64) })]

    #[test]
    fn the_probability_of_an_answer_is_that_of_its_tokens_one_after_the_other(
        spec in model(), pair in pair(8), patches in runs(4), seed in any::<u64>(),
    ) {
        joint_is_the_chain(&spec, &pair, &patches, seed)?;
    }

    /// The mean of what is read at each position, prompt by prompt.
    #[test]
    fn a_loss_is_the_mean_over_a_prompts_own_tokens(
        spec in model(), pair in pair(8), patches in runs(4), seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let config = &checkpoint.config;
        let (pair, runs) = questioned(&pair, &patches, config, seed)?;
        let cpu = Cpu::<f64>::new(&checkpoint);
        let never = std::sync::atomic::AtomicBool::new(false);
        let within = Limits { loss: true, ..limits(&never) };
        let with = |pair: Pair| PairRuns { pair, runs: runs.clone().into() };
        let found = try_run_within(&cpu, &[with(pair.clone())], &within).unwrap();
        prop_assert_eq!(found.plan.count, runs.len());
        // the same prompt read everywhere, for all tokens
        let everywhere = |ids: &[u32], runs: &[Run]| {
            let pair = Pair {
                base: ids.to_vec(),
                source: pair.source.clone(),
                targets: (0..config.vocab as u32).collect(),
                readouts: (0..ids.len()).collect(),
                ..Pair::default()
            };
            let of = PairRuns { pair, runs: runs.to_vec().into() };
            try_run_within(&cpu, &[of], &limits(&never)).unwrap().pairs.remove(0)
        };
        let mean = |ids: &[u32], readouts: &[Readout]| {
            let each = ids[1..].iter().zip(readouts);
            -each.map(|(id, r)| r.log_probability(r.logits[*id as usize])).sum::<f64>() / (ids.len() - 1) as f64
        };
        let near = |got: Option<f64>, want: f64| {
            let got = got.unwrap();
            prop_assert!(
                (got - want).abs() <= 1e-12 * want.abs().max(1.0) || got.is_nan() == want.is_nan() && !got.is_finite(),
                "{got}, not {want}",
            );
            Ok(())
        };
        let want = everywhere(&pair.base, &runs);
        let found = &found.pairs[0];
        near(found.base[0].loss, mean(&pair.base, &want.base))?;
        for (found, want) in found.runs.iter().zip(&want.runs) {
            near(found[0].loss, mean(&pair.base, want))?;
        }
        let ids = pair.source.clone().unwrap();
        let want = everywhere(&ids, &[]);
        near(found.source.as_ref().unwrap().loss, mean(&ids, &want.base))?;
    }

    /// Noise and means by position are those of the prompt, not of what follows; and which answer a run goes on with
    /// moves no bit.
    #[test]
    fn what_follows_a_prompt_does_not_touch_it(
        spec in model(), pair in pair(8), patches in runs(4), seed in any::<u64>(),
    ) {
        let checkpoint = spec.open();
        let config = &checkpoint.config;
        let (pair, runs) = questioned(&pair, &patches, config, seed)?;
        let cpu = Cpu::<f32>::new(&checkpoint);
        let never = std::sync::atomic::AtomicBool::new(false);
        let within = Limits { kl: true, ranks: true, top: 2, top_of_runs: 2, ..limits(&never) };
        let read = |pair: Pair| {
            let pairs = [PairRuns { pair, runs: runs.clone().into() }];
            try_run_within(&cpu, &pairs, &within).unwrap().pairs.remove(0)
        };
        let with = |pair: &Pair, order: &dyn Fn(&mut Vec<Vec<u32>>)| {
            let mut all: Vec<Vec<u32>> = (0..pair.answers().len()).map(|i| pair.answer_tokens(i)).collect();
            order(&mut all);
            (pair.clone().answered(&all, &[]), all)
        };
        let (forth, answers) = with(&pair, &|_| ());
        let (back, _) = with(&pair, &|all| all.reverse());
        let [forth, back] = [forth, back].map(read);
        // the prompt alone: its first tokens, as single answers
        let mut firsts: Vec<Vec<u32>> = answers.iter().map(|a| vec![a[0]]).collect();
        firsts.sort();
        firsts.dedup();
        let alone = read(Pair { further_tokens: Vec::new(), ..pair.clone().answered(&firsts, &[]) });
        let all = |of: &headlight::execute::PairOutcome| -> Vec<Readout> {
            of.base.iter().chain(&of.source).chain(of.runs.iter().flatten()).cloned().collect()
        };
        for ((forth, back), alone) in all(&forth).iter().zip(all(&back)).zip(all(&alone)) {
            let mut reversed = back.joint.clone();
            reversed.reverse();
            let exact = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(exact(&forth.joint), exact(&reversed));
            let without = |readout: &Readout| Readout { logits: Vec::new(), ranks: Vec::new(), ..readout.clone() };
            prop_assert_eq!(bits(&without(forth)), bits(&without(&alone)));
        }
    }

    /// What is planned for a pair is the bound on what it takes, its answers' further prompts and its loss included.
    #[test]
    fn whole_answers_and_losses_are_planned(
        spec in model(), pair in pair(8), patches in runs(4), seed in any::<u64>(), loss in any::<bool>(),
    ) {
        let checkpoint = spec.open();
        let config = &checkpoint.config;
        let (pair, runs) = questioned(&pair, &patches, config, seed)?;
        let of = PairRuns { pair, runs: runs.into() };
        let cost = Costing::new(config, loss).pair(&of, 0);
        let cpu = Cpu::<f64>::new(&checkpoint);
        let never = std::sync::atomic::AtomicBool::new(false);
        let within = Limits { loss, memory: PLENTY, ..limits(&never) };
        let done = try_run_within(&cpu, std::slice::from_ref(&of), &within).unwrap().plan;
        prop_assert!(cost.flops.last().copied().unwrap_or(0) >= done.runs.total(), "{cost:?} {done:?}");
        prop_assert!(cost.clean + cost.flops.last().copied().unwrap_or(0) > 0);
        prop_assert_eq!(cost.read_out.last().copied().unwrap_or(0) as usize, done.count);
    }
}

/// What has no meaning for several tokens is refused, in a sentence that says what has.
#[test]
fn what_is_of_single_tokens_is_refused() {
    let engine = Engine::open("demo").build().unwrap();
    let pair = Pair::encode(
        engine.model(),
        "The capital of Spain is",
        "The capital of Italy is",
        &[],
    )
    .unwrap()
    .answered(&[vec![464, 465]], &[vec![466]]);
    let question = || {
        engine.runs(PairRuns {
            pair: pair.clone(),
            runs: [].into(),
        })
    };
    for metric in ["logit", "logit_diff", "rank", "top1", "recovery_logit"] {
        let metric: Metric = metric.parse().unwrap();
        let error = question().metrics(&[metric]).err().unwrap().to_string();
        assert!(
            error.contains("single tokens") && error.contains("logprob"),
            "{error}"
        );
    }
    for metric in [
        "prob",
        "logprob",
        "prob_diff",
        "kl",
        "entropy",
        "loss",
        "recovery_prob",
    ] {
        let metric: Metric = metric.parse().unwrap();
        assert!(question().metrics(&[metric]).is_ok(), "{metric}");
    }
    let config = &engine.model().config;
    let twice = pair
        .clone()
        .answered(&[vec![464, 465], vec![464, 466], vec![464, 465]], &[]);
    assert!(
        check_pair(&twice, config)
            .unwrap_err()
            .to_string()
            .contains("twice")
    );
    let both = pair.clone().answered(&[vec![464, 465]], &[vec![464, 465]]);
    assert!(
        check_pair(&both, config)
            .unwrap_err()
            .to_string()
            .contains("right and wrong")
    );
    let apart = pair.clone().answered(&[vec![464, 465]], &[vec![464, 466]]);
    assert_eq!(check_pair(&apart, config), Ok(()));
    let long = pair.clone().answered(&[vec![464; config.context]], &[]);
    assert!(
        check_pair(&long, config)
            .unwrap_err()
            .to_string()
            .contains("context")
    );
    let elsewhere = Pair {
        readouts: vec![2],
        ..pair
    };
    assert!(
        check_pair(&elsewhere, config)
            .unwrap_err()
            .to_string()
            .contains("--at")
    );
}

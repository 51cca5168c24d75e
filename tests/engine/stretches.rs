//! Some runs of a question are what they are among all of them, bit for bit; and what each is planned to take adds up
//! to the plan.

use headlight::backend::cpu::Cpu;
use headlight::execute::plan;
use headlight::folder::cut::Cursor;
use headlight::graph::edge::{NamedNodes, select, senders};
use headlight::graph::path::{Freeze, Paths, Receivers, receivers};
use headlight::results::rows::Gather;
use headlight::tracing::level::Level;
use headlight::tracing::runs::Restored;
use headlight::tracing::window::usual;
use headlight::{
    Component, Engine, Extent, IndexRange, Op, Pair, Question, Row, Sweep, Table, Tracing, Where,
};

fn pairs(engine: &Engine) -> Vec<Pair> {
    let capitals = [
        ("Spain", "Italy"),
        ("France", "Spain"),
        ("Italy", "France"),
        ("Spain", "Spain"),
    ];
    let pair = |(base, source)| {
        let base = format!("The capital of {base} is");
        let source = format!("The capital of {source} is");
        let pair = engine.pair(&base, &source).unwrap();
        pair.target(" Rome").unwrap().target(" Madrid").unwrap()
    };
    let pairs = capitals.map(pair);
    let runs = pairs.map(|pair| pair.run([]).pair);
    runs.into()
}

fn named(names: &[&str]) -> NamedNodes {
    let pattern = |name: &&str| ((*name).to_owned(), name.parse().unwrap());
    names.iter().map(pattern).collect()
}

fn rows(question: &Question<'_>, from: Cursor, to: Cursor) -> Vec<Row> {
    let mut table = Table::default();
    let gather: &mut dyn Gather = &mut table;
    question
        .answer_some(from..to, &mut [gather], &|_| ())
        .unwrap();
    table.rows
}

/// Rows as text, with the bits of every number.
fn bits(rows: &[Row]) -> Vec<String> {
    let numbers = |row: &Row| [row.prob, row.logit, row.base_prob].map(f64::to_bits);
    let one = |row: &Row| format!("{row:?} {:?}", numbers(row));
    rows.iter().map(one).collect()
}

fn in_parts(question: &Question<'_>) {
    let runs: Vec<usize> = question
        .costs()
        .iter()
        .map(|cost| cost.flops.len())
        .collect();
    let whole = question.whole();
    let all = bits(&rows(question, whole.start, whole.end));
    assert!(!all.is_empty());
    let cuts = [
        vec![Cursor::new(1, 0), Cursor::new(3, 0)],
        vec![
            Cursor::new(0, 1),
            Cursor::new(0, runs[0] / 2),
            Cursor::new(1, runs[1]),
            Cursor::new(2, runs[2] - 1),
            Cursor::new(3, 3),
        ],
        vec![Cursor::new(1, runs[1] / 3), Cursor::new(3, runs[3] / 2 + 1)],
    ];
    for cuts in cuts {
        let ends = cuts.iter().chain([&whole.end]);
        let begins = [whole.start];
        let begins = begins.iter().chain(&cuts);
        let parts = begins.zip(ends);
        let parts: Vec<Row> = parts
            .flat_map(|(from, to)| rows(question, *from, *to))
            .collect();
        assert_eq!(bits(&parts), all, "{cuts:?}");
    }
}

fn add_up(engine: &Engine, question: &Question<'_>) {
    let bound = plan(&Cpu::<f32>::new(engine.model()), &question.pairs);
    let costs = question.costs();
    let flops: u64 = costs.iter().filter_map(|cost| cost.flops.last()).sum();
    assert_eq!(flops, bound.runs.total());
    let read_out = costs.iter().filter_map(|cost| cost.read_out.last());
    assert_eq!(read_out.sum::<u32>() as usize, bound.count);
    let copied: usize = costs.iter().map(|cost| cost.copied).sum();
    assert_eq!(copied, bound.copied);
}

#[test]
fn sweeps() {
    let engine = Engine::open("demo").build().unwrap();
    let sweep = Sweep::of(&["head_value_output", "mlp_output"]).unwrap();
    let question = engine.sweep(&sweep, pairs(&engine)).unwrap();
    in_parts(&question);
    add_up(&engine, &question);
}

/// Noise is keyed by the pair's index among all.
#[test]
fn noise() {
    let engine = Engine::open("demo").build().unwrap();
    let op = Op::Noise {
        level: 0.1,
        seed: 3,
        sample: 0,
    };
    let sweep = Sweep::of(&["block_output"]).unwrap().op(op);
    in_parts(&engine.sweep(&sweep, pairs(&engine)).unwrap());
}

#[test]
fn edges() {
    let engine = Engine::open("demo").build().unwrap();
    let config = &engine.model().config;
    let edges = select(&named(&["a0", "m0"]), &named(&["logits", "a1.h0"]), config).unwrap();
    for extent in [Extent::Whole, Extent::PerPosition] {
        let question = engine.edges(edges.clone(), extent, pairs(&engine)).unwrap();
        in_parts(&question);
        let costs = question.costs();
        assert!(*costs[0].flops.last().unwrap() > 0);
        // of equal prompts nothing is different
        assert_eq!(*costs[3].flops.last().unwrap(), 0);
    }
}

#[test]
fn paths() {
    let engine = Engine::open("demo").build().unwrap();
    let config = &engine.model().config;
    let names = ["a1.h0.q".to_owned(), "a1.h1.v".to_owned()];
    let paths = Paths {
        senders: senders(&named(&["a0", "m0"]), config).unwrap(),
        receivers: Receivers::apart(receivers(&names, config).unwrap()),
        freeze: Freeze::Heads,
        freeze_scales: false,
    };
    let question = engine.paths(paths, (&Where::Together, &Where::All), pairs(&engine));
    let question = question.unwrap();
    in_parts(&question);
    add_up(&engine, &question);
}

#[test]
fn tracings() {
    let engine = Engine::open("demo").build().unwrap();
    let component = Component::BlockOutput;
    let window = usual(component);
    let tracing = Tracing {
        restored: vec![Restored { component, window }],
        level: 0.0,
        seed: 1,
        samples: 3,
    };
    let question = engine.tracing(tracing, (Level::default(), "3"), pairs(&engine));
    let question = question.unwrap();
    in_parts(&question);
    add_up(&engine, &question);
}

#[test]
fn a_window_of_layers() {
    let engine = Engine::open("demo").build().unwrap();
    let sweep = Sweep::of(&["query_output"]).unwrap();
    let sweep = sweep.layers(IndexRange::Some(vec![1]));
    let question = engine.sweep(&sweep, pairs(&engine)).unwrap();
    in_parts(&question);
    add_up(&engine, &question);
}

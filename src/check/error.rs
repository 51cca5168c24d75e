//! What does not fit, in a sentence.

use crate::text::counted;

/// What does not fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A prompt without tokens.
    #[error("the {which} prompt is empty: give at least one token")]
    EmptyPrompt {
        /// `base`, `source`, or a further prompt's name.
        which: String,
    },
    /// More tokens than positions.
    #[error("the {which} prompt has {tokens} tokens, more than the model's context of {context}")]
    PromptTooLong {
        /// `base`, `source`, or a further prompt's name.
        which: String,
        /// Tokens in the prompt.
        tokens: usize,
        /// Positions of the model.
        context: usize,
    },
    /// An answer that reaches beyond the model's positions.
    #[error(
        "an answer of {answer} tokens after the {which} prompt's {tokens} is more than the model's context of {context}"
    )]
    NoRoomForAnswer {
        /// `base` or `source`.
        which: String,
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens of the longest answer.
        answer: usize,
        /// Positions of the model.
        context: usize,
    },
    /// An answer of several tokens that would go on inside a prompt.
    #[error(
        "an answer of several tokens is read at the end of a prompt: leave out --at, or give answers of one token"
    )]
    AnswerElsewhere,
    /// A token id that the model does not have.
    #[error("token id {id} is not in the vocabulary: ids are 0 to {}", vocab - 1)]
    TokenId {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A target that is there already.
    #[error("target id {id} is given twice: name each target once")]
    TargetTwice {
        /// The id.
        id: u32,
    },
    /// A target that is a wrong one too.
    #[error("target id {id} is both right and wrong: name it as one of them")]
    RightAndWrong {
        /// The id.
        id: u32,
    },
    /// A head, position or key that one patch names twice.
    #[error(
        "{site} names {what} {value} twice in one patch: name it once, or write two patches to act twice"
    )]
    Twice {
        /// `head`, `position` or `key`.
        what: &'static str,
        /// The value.
        value: usize,
        /// The component.
        site: &'static str,
    },
    /// A layer, head, position or key out of range.
    #[error("{what} {value} of {site} is out of range: {what}s are 0 to {last}")]
    OutOfRange {
        /// `layer`, `head`, `position`, …
        what: &'static str,
        /// As given.
        value: usize,
        /// The component.
        site: &'static str,
        /// The largest that exists.
        last: usize,
    },
    /// A layer where there is none, heads where there are none, or the reverse.
    #[error("{site} {problem}")]
    Shape {
        /// The component.
        site: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// An operator that reads a source prompt, and no source prompt.
    #[error("`{op}` at {site} reads a source prompt, but the pair has none: give one")]
    NoSource {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
    },
    /// A run of a prompt that the pair does not have.
    #[error("patches the {prompt} prompt, but the pair has none: give one")]
    NoPrompt {
        /// Which.
        prompt: &'static str,
    },
    /// A run of another prompt than the base that is to be read out.
    #[error(
        "patches the {prompt} prompt, whose answers are not the base's: make it a step, which other runs read and which has no rows"
    )]
    NotABase {
        /// Which.
        prompt: String,
    },
    /// A run that is read by itself, directly or through others, or does not exist.
    #[error("`{op}` at {site} reads run {run}, {problem}")]
    Chain {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
        /// Index of the run.
        run: usize,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Every position of two prompts of unequal lengths, whose tokens do not face each other.
    #[error(
        "`{op}` reads the source at every position of the base, but the source has {source_tokens} \
         tokens and the base {base_tokens}: give prompts of equal length, or positions by names \
         (--positions end, or a word)"
    )]
    UnequalLengths {
        /// The operator.
        op: String,
        /// Tokens of the base.
        base_tokens: usize,
        /// Tokens of the source.
        source_tokens: usize,
    },
    /// Position p is read from a source that is too short.
    #[error(
        "`{op}` at {site} reads position {position} of the {prompt} prompt, which has only {} \
         where the patched one has {patched}: give prompts of equal length, or patch positions that both have",
        counted(*length, "token")
    )]
    SourceTooShort {
        /// The operator.
        op: String,
        /// The component.
        site: &'static str,
        /// The position read.
        position: usize,
        /// The prompt that is read.
        prompt: String,
        /// Its tokens.
        length: usize,
        /// Tokens of the prompt that is patched.
        patched: usize,
    },
    /// A basis of the wrong width.
    #[error(
        "the basis `{label}` is of rows of {found} numbers, but a row of {site} has {expected}"
    )]
    BasisWidth {
        /// How the basis was named.
        label: String,
        /// n.
        found: usize,
        /// The component.
        site: &'static str,
        /// The row's length.
        expected: usize,
    },
    /// A constant of the wrong length.
    #[error("`{label}` has {found} values, but {of} has {expected}")]
    VectorLength {
        /// How the constant was named.
        label: String,
        /// Its length.
        found: usize,
        /// `a row of` the component, or the basis.
        of: String,
        /// The length that fits.
        expected: usize,
    },
}

//! A state dict's pickle, read as data.
//!
//! A pickle is a program for a stack machine that may name any Python function and call it. This
//! machine has no functions: it knows the protocol 2 instructions that `torch.save` writes for a state
//! dict (Python's `pickletools` describes each), and the globals that stand in one. Anything else is
//! refused where it stands. Nothing here recurses, and what is built is bounded by the pickle's length.

use std::collections::HashMap;

use super::instructions;
use super::quoted;
use super::storage::{Layout, ScalarType};

/// What is wrong with a pickle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct PickleError {
    /// Where the instruction stands, from 0.
    pub at: usize,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// What may be called, or named in a storage.
#[derive(Debug, Clone, Copy)]
enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(ScalarType),
}

/// Values refer to the machine's own lists, so that they are copied and never nested.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Text(&'a str),
    Tuple(usize),
    Dict(usize),
    Global(Global),
    /// (kind, key, numbers)
    Storage(ScalarType, &'a str, i64),
    StoredTensor(usize),
}

const NOT_ONE: &str = "a state dict has none here: save it again with torch.save(intervention.state_dict(), …), \
                       and trust a file that asks for more with nothing";

struct Machine<'a> {
    bytes: &'a [u8],
    /// Where the instruction in hand stands.
    at: usize,
    next: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    tuples: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    tensors: Vec<Layout>,
}

/// The tensors of a state dict's pickle, in its order.
///
/// # Errors
///
/// [`PickleError`] at the first instruction or global that no state dict has.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Layout)>, PickleError> {
    let mut machine = Machine {
        bytes,
        at: 0,
        next: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        tuples: Vec::new(),
        dicts: Vec::new(),
        tensors: Vec::new(),
    };
    let dict = machine.run()?;
    let mut named: Vec<(String, Layout)> = Vec::new();
    let mut places = HashMap::new();
    for (key, value) in &machine.dicts[dict] {
        let (Value::Text(name), Value::StoredTensor(tensor)) = (key, value) else {
            return machine.fail("the state dict holds something that is no named tensor");
        };
        let layout = machine.tensors[*tensor].clone();
        // as in Python, a name that is set again keeps its place
        match places.get(name) {
            Some(&place) => named[place] = ((*name).to_owned(), layout),
            None => {
                places.insert(*name, named.len());
                named.push(((*name).to_owned(), layout));
            }
        }
    }
    Ok(named)
}

impl<'a> Machine<'a> {
    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, PickleError> {
        Err(PickleError {
            at: self.at,
            problem: problem.into(),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], PickleError> {
        let end = self.next.checked_add(count);
        match end.and_then(|end| self.bytes.get(self.next..end)) {
            Some(taken) => {
                self.next += count;
                Ok(taken)
            }
            None => self.fail("the pickle ends in the middle of an instruction"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().unwrap_or([0; N]))
    }

    fn text(&mut self, bytes: &'a [u8]) -> Result<&'a str, PickleError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.fail("a text is not UTF-8"),
        }
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.next..];
        let Some(length) = rest.iter().position(|b| *b == b'\n') else {
            return self.fail("the pickle ends in the middle of a name");
        };
        self.next += length + 1;
        self.text(&rest[..length])
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => self.fail("the stack is empty"),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>, PickleError> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => self.fail("there is no mark"),
        }
    }

    fn tuple(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Tuple(self.tuples.len()));
        self.tuples.push(items);
    }

    fn dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn put(&mut self, index: u32) -> Result<(), PickleError> {
        match self.stack.last() {
            Some(value) => {
                self.memo.insert(index, *value);
                Ok(())
            }
            None => self.fail("there is nothing to remember"),
        }
    }

    fn get(&mut self, index: u32) -> Result<(), PickleError> {
        match self.memo.get(&index) {
            Some(value) => {
                self.stack.push(*value);
                Ok(())
            }
            None => self.fail(format!("nothing was remembered as {index}")),
        }
    }

    fn set(&mut self, items: &[Value<'a>]) -> Result<(), PickleError> {
        let Some(Value::Dict(dict)) = self.stack.last() else {
            return self.fail("items are set of something that is no dict");
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return self.fail("a name is set to nothing");
        }
        self.dicts[*dict].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    /// Runs to the end, and says which dict is the result.
    fn run(&mut self) -> Result<usize, PickleError> {
        if self.bytes.get(..2) != Some(&[0x80, 2]) {
            return self.fail("it is no pickle of protocol 2, which torch.save writes by itself: leave out pickle_protocol");
        }
        self.next = 2;
        loop {
            self.at = self.next;
            let [code] = self.array()?;
            match code {
                b'.' => {
                    let result = self.pop()?;
                    return match result {
                        Value::Dict(dict) if self.stack.is_empty() => Ok(dict),
                        _ => self.fail("what was saved is no state dict: save it with torch.save(intervention.state_dict(), …)"),
                    };
                }
                b'(' => self.marks.push(self.stack.len()),
                b')' => self.tuple(Vec::new()),
                b'}' => self.dict(),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'K' => {
                    let [n] = self.array()?;
                    self.stack.push(Value::Int(n.into()));
                }
                b'M' => {
                    let n = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                b'J' => {
                    let n = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(n.into()));
                }
                0x8a => self.long()?,
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    let taken = self.take(length as usize)?;
                    let text = self.text(taken)?;
                    self.stack.push(Value::Text(text));
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.tuple(items);
                }
                0x85..=0x87 => {
                    let mut items = Vec::with_capacity(3);
                    for _ in 0x84..code {
                        items.push(self.pop()?);
                    }
                    items.reverse();
                    self.tuple(items);
                }
                b'q' => {
                    let [index] = self.array()?;
                    self.put(index.into())?;
                }
                b'r' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.put(index)?;
                }
                b'h' => {
                    let [index] = self.array()?;
                    self.get(index.into())?;
                }
                b'j' => {
                    let index = u32::from_le_bytes(self.array()?);
                    self.get(index)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let global = self.global(module, name)?;
                    self.stack.push(Value::Global(global));
                }
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                b'b' => self.attributes()?,
                other => {
                    return self.fail(format!(
                        "instruction 0x{other:02x} ({}): {NOT_ONE}",
                        instructions::name(other)
                    ));
                }
            }
        }
    }

    fn long(&mut self) -> Result<(), PickleError> {
        let [length] = self.array()?;
        let bytes = self.take(length.into())?;
        if bytes.len() > 8 {
            return self.fail("an integer has more than 64 bits");
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn global(&self, module: &str, name: &str) -> Result<Global, PickleError> {
        let storage = ScalarType::of(name)
            .filter(|_| module == "torch")
            .map(Global::Storage);
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
            _ => match storage {
                Some(storage) => Ok(storage),
                None => self.fail(format!(
                    "global {}: {NOT_ONE}",
                    quoted(&format!("{module}.{name}"))
                )),
            },
        }
    }

    /// `("storage", type, key, device, numbers)`; the device no longer matters.
    fn storage(&mut self) -> Result<(), PickleError> {
        if let Value::Tuple(id) = self.pop()?
            && let [
                Value::Text("storage"),
                Value::Global(Global::Storage(kind)),
                Value::Text(key),
                Value::Text(_),
                Value::Int(numbers),
            ] = self.tuples[id][..]
        {
            self.stack.push(Value::Storage(kind, key, numbers));
            return Ok(());
        }
        self.fail("a storage is not named as torch.save names it")
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(function)) = (arguments, function) else {
            return self.fail("something is called that cannot be");
        };
        match (function, &self.tuples[arguments][..]) {
            (Global::OrderedDict, []) => self.dict(),
            // (data, requires_grad, hooks)
            (
                Global::RebuildParameter,
                [tensor @ Value::StoredTensor(_), Value::Bool, Value::Dict(_)],
            ) => {
                self.stack.push(*tensor);
            }
            // (storage, offset, size, stride, requires_grad, hooks[, metadata])
            (
                Global::RebuildTensor,
                [
                    Value::Storage(kind, key, numbers),
                    Value::Int(offset),
                    Value::Tuple(shape),
                    Value::Tuple(strides),
                    Value::Bool,
                    Value::Dict(_),
                    rest @ ..,
                ],
            ) if rest.len() <= 1 => {
                let layout = Layout {
                    kind: *kind,
                    key: (*key).to_owned(),
                    numbers: *numbers,
                    offset: *offset,
                    shape: self.integers(*shape)?,
                    strides: self.integers(*strides)?,
                };
                self.stack.push(Value::StoredTensor(self.tensors.len()));
                self.tensors.push(layout);
            }
            _ => {
                return self.fail(format!(
                    "{function:?} is called with other arguments than torch.save gives it"
                ));
            }
        }
        Ok(())
    }

    fn integers(&self, tuple: usize) -> Result<Vec<i64>, PickleError> {
        let integer = |value: &Value<'a>| match value {
            Value::Int(n) => Ok(*n),
            _ => self.fail("a size or stride is no integer"),
        };
        self.tuples[tuple].iter().map(integer).collect()
    }

    /// A state dict has one attribute, the modules' versions, which say nothing of its numbers.
    fn attributes(&mut self) -> Result<(), PickleError> {
        let (state, of) = (self.pop()?, self.stack.last());
        if let (Value::Dict(state), Some(Value::Dict(_))) = (state, of)
            && let [(Value::Text("_metadata"), Value::Dict(_))] = self.dicts[state][..]
        {
            return Ok(());
        }
        self.fail("attributes are set other than a state dict's _metadata")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `torch.save(OrderedDict(w=tensor))` writes, the storage's numbers and the tensor's size open.
    fn one(global: &str, numbers: u8, size: u8) -> Vec<u8> {
        let mut bytes =
            b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01X\x01\x00\x00\x00w".to_vec();
        bytes.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagec");
        bytes.extend(global.as_bytes());
        bytes.extend(b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK");
        bytes.extend([
            numbers, b't', b'Q', b'K', 0, b'K', size, 0x85, b'K', 1, 0x85, 0x89,
        ]);
        bytes.extend(b"h\x00)Rtq\x02Rs}X\x09\x00\x00\x00_metadata}sb.");
        bytes
    }

    #[test]
    fn a_state_dict_is_its_tensors() {
        let read = read(&one("torch\nFloatStorage\n", 6, 4)).unwrap();
        let layout = Layout {
            kind: ScalarType::Float,
            key: "0".into(),
            numbers: 6,
            offset: 0,
            shape: vec![4],
            strides: vec![1],
        };
        assert_eq!(read, [("w".to_owned(), layout)]);
    }

    #[test]
    fn programs_are_refused_by_name_and_place() {
        let system = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.";
        let error = read(system).unwrap_err();
        assert_eq!(error.at, 2);
        assert!(error.problem.contains("`os.system`"), "{error}");
        let lists = read(b"\x80\x02]q\x00.").unwrap_err();
        assert_eq!(lists.at, 2);
        assert!(lists.problem.contains("0x5d (EMPTY_LIST)"), "{lists}");
        let storage = read(&one("builtins\nFloatStorage\n", 6, 4)).unwrap_err();
        assert!(
            storage.problem.contains("`builtins.FloatStorage`"),
            "{storage}"
        );
        // a torch function that runs code
        let load = read(b"\x80\x02ctorch\nload\n.").unwrap_err();
        assert!(load.problem.contains("`torch.load`"), "{load}");
        for (bytes, needle) in [
            (&b"\x80\x02}"[..], "ends in the middle"),
            (b"\x80\x04}.", "protocol 2"),
            (b"\x80\x02N.", "no state dict"),
            (b"\x80\x02t.", "no mark"),
            (b"\x80\x02(}0.", "POP"),
            (b"\x80\x02}(R.", "the stack is empty"),
            (b"\x80\x02h\x07.", "remembered as 7"),
            (b"\x80\x02}K\x01K\x02s.", "no named tensor"),
            (b"\x80\x02X\xff\xff\xff\xffa", "ends in the middle"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.problem.contains(needle), "{bytes:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"\x80\x02", &bytes[..]].concat());
        }

        #[test]
        fn programs_of_known_instructions_never_panic(
            codes in proptest::collection::vec(
                proptest::sample::select(&b"()}NKtqhsuRQbX.\x85\x86\x87\x88\x8a"[..]), 0..80),
        ) {
            let mut bytes = one("torch\nLongStorage\n", 1, 1);
            bytes.pop();
            bytes.extend(codes);
            let _ = read(&bytes);
        }
    }
}

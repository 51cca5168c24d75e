//! Reads kernels/arguments.cuh, the one statement of what the host and the kernels tell each other, and
//! writes it once more in Rust, with checks for both compilers that sizes and offsets are the same.
//!
//! It reads no more of C++ than that file needs: constants, enumerations counted from 0, and structures of
//! `uint32_t`, `uint64_t`, `float`, pointers, enumerations and structures that stand above. All else is
//! an error. A structure's layout is never a template argument's affair: `T x` is an error, too.

/// What the file states, in its order.
#[derive(Debug, Default)]
pub struct Interface {
    pub constants: Vec<(String, u32)>,
    /// Enumerations with their names.
    pub codes: Vec<(String, Vec<String>)>,
    pub structures: Vec<Structure>,
}

#[derive(Debug)]
pub struct Structure {
    pub name: String,
    /// How many template parameters it has.
    pub parameters: usize,
    pub fields: Vec<Field>,
    pub size: usize,
    align: usize,
    /// Whether none of its bytes is a hole.
    whole: bool,
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    /// Its type in Rust.
    pub kind: String,
    pub offset: usize,
}

/// Reads the file's text.
///
/// # Errors
///
/// What is not understood.
pub fn read(text: &str) -> Result<Interface, String> {
    let code = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    let code: Vec<&str> = code.filter(|line| !line.starts_with('#')).collect();
    let code = code.join("\n");
    let mut reader = Reader { rest: &code };
    let mut interface = Interface::default();
    while !reader.at_end() {
        reader.item(&mut interface).map_err(|what| {
            let near: String = reader.rest.trim_start().chars().take(40).collect();
            format!("{what} before `{near}`")
        })?;
    }
    Ok(interface)
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn at_end(&self) -> bool {
        self.rest.trim_start().is_empty()
    }

    /// The next word or character.
    fn next(&mut self) -> &'a str {
        let text = self.rest.trim_start();
        let word = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let (token, rest) = text.split_at(match word {
            Some(0) => text.chars().next().map_or(0, char::len_utf8),
            Some(length) => length,
            None => text.len(),
        });
        self.rest = rest;
        token
    }

    /// Whether a token comes next, which is then read.
    fn has(&mut self, token: &str) -> bool {
        let before = self.rest;
        let has = self.next() == token;
        if !has {
            self.rest = before;
        }
        has
    }

    fn expect(&mut self, tokens: &[&str]) -> Result<(), String> {
        tokens.iter().try_for_each(|token| {
            let found = self.has(token);
            found
                .then_some(())
                .ok_or_else(|| format!("`{token}` is missing"))
        })
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.next();
        let fits = name.starts_with(|c: char| c.is_ascii_alphabetic());
        fits.then(|| name.to_owned())
            .ok_or_else(|| format!("`{name}` is no name"))
    }

    fn number(&mut self) -> Result<u32, String> {
        let digits = self.next();
        let number = match digits.strip_prefix("0x") {
            Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16),
            None => digits.parse(),
        };
        number.map_err(|_| format!("`{digits}` is no number of 32 bits"))
    }

    fn item(&mut self, to: &mut Interface) -> Result<(), String> {
        let mut parameters = 0;
        if self.has("constexpr") {
            self.expect(&["uint32_t"])?;
            loop {
                let name = self.name()?;
                self.expect(&["="])?;
                to.constants.push((name, self.number()?));
                if !self.has(",") {
                    return self.expect(&[";"]);
                }
            }
        }
        if self.has("enum") {
            self.expect(&["class"])?;
            let name = self.name()?;
            self.expect(&[":", "uint32_t", "{"])?;
            let mut names = vec![self.name()?];
            while self.has(",") {
                names.push(self.name()?);
            }
            to.codes.push((name, names));
            return self.expect(&["}", ";"]);
        }
        if self.has("template") {
            self.expect(&["<"])?;
            while !self.has(">") {
                self.has(",");
                self.expect(&["class"])?;
                self.name()?;
                if self.has("=") {
                    self.name()?;
                }
                parameters += 1;
            }
        }
        self.expect(&["struct"])?;
        let structure = self.structure(parameters, to)?;
        to.structures.push(structure);
        Ok(())
    }

    fn structure(&mut self, parameters: usize, above: &Interface) -> Result<Structure, String> {
        let (mut size, mut align, mut whole, mut fields) = (0usize, 1usize, true, Vec::new());
        if self.has("alignas") {
            self.expect(&["("])?;
            align = self.number()? as usize;
            self.expect(&[")"])?;
        }
        let name = self.name()?;
        self.expect(&["{"])?;
        while !self.has("}") {
            self.has("const");
            let kind = self.name()?;
            // what a template is of decides nothing
            let mut depth = usize::from(self.has("<"));
            while depth > 0 {
                match self.next() {
                    "<" => depth += 1,
                    ">" => depth -= 1,
                    "" => return Err("a `>` is missing".into()),
                    _ => {}
                }
            }
            loop {
                let pointer = self.has("*");
                let kind = if pointer { "Pointer" } else { &kind };
                let (kind, its_size, its_align, is_whole) = above.layout(kind)?;
                let (name, kind) = (self.name()?, kind.to_owned());
                let offset = size.next_multiple_of(its_align);
                fields.push(Field { name, kind, offset });
                whole &= is_whole && offset == size;
                (size, align) = (offset + its_size, align.max(its_align));
                if !self.has(",") {
                    break;
                }
            }
            self.expect(&[";"])?;
        }
        self.expect(&[";"])?;
        Ok(Structure {
            name,
            parameters,
            fields,
            size: size.next_multiple_of(align),
            align,
            whole: whole && size.is_multiple_of(align),
        })
    }
}

impl Interface {
    /// A type's name in Rust, its size, its alignment, and whether it is without holes.
    fn layout<'a>(&'a self, name: &'a str) -> Result<(&'a str, usize, usize, bool), String> {
        let structure = self.structures.iter().find(|s| s.name == name);
        match (name, structure) {
            ("uint32_t", _) => Ok(("u32", 4, 4, true)),
            ("uint64_t", _) => Ok(("u64", 8, 8, true)),
            ("float", _) => Ok(("f32", 4, 4, true)),
            ("Pointer", _) => Ok((name, 8, 8, true)),
            (_, Some(s)) => Ok((name, s.size, s.align, s.whole)),
            _ if self.codes.iter().any(|(code, _)| code == name) => Ok((name, 4, 4, true)),
            _ => Err(format!("{name} is no type that both sides know")),
        }
    }

    /// The same in Rust; what is named `…Args` is what kernels are launched with.
    pub fn in_rust(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.constants {
            text += &format!("pub const {name}: u32 = {value};\n");
        }
        let derive = "#[derive(Debug, Clone, Copy, PartialEq";
        for (name, codes) in &self.codes {
            let codes: Vec<String> = codes.iter().map(|code| camel(code)).collect();
            let codes = codes.join(", ");
            text += &format!("#[repr(u32)]\n{derive}, bytemuck::NoUninit)]\n");
            text += &format!("pub enum {name} {{ {codes} }}\n");
        }
        for s in &self.structures {
            let (name, size, align) = (&s.name, s.size, s.align);
            // what tables may consist of
            let plain = if s.whole { ", bytemuck::NoUninit" } else { "" };
            text +=
                &format!("#[repr(C, align({align}))]\n{derive}{plain})]\npub struct {name} {{\n");
            let mut checks = format!("const _: () = assert!(size_of::<{name}>() == {size});\n");
            for Field {
                name: field,
                kind,
                offset,
            } in &s.fields
            {
                text += &format!("    pub {field}: {kind},\n");
                let found = format!("std::mem::offset_of!({name}, {field})");
                checks += &format!("const _: () = assert!({found} == {offset});\n");
            }
            text += &format!("}}\n{checks}");
        }
        let launched = self.structures.iter().map(|s| &*s.name);
        let launched: Vec<&str> = launched.filter(|name| name.ends_with("Args")).collect();
        text + &format!("arguments!({});\n", launched.join(", "))
    }

    /// C++ that does not compile where a size or an offset is another than in Rust.
    pub fn checks(&self) -> String {
        let mut text = String::from("#include \"arguments.cuh\"\n");
        for s in &self.structures {
            let of = vec!["float"; s.parameters].join(", ");
            let of = if of.is_empty() { of } else { format!("<{of}>") };
            let (name, size) = (format!("{}{of}", s.name), s.size);
            text += &format!("static_assert(sizeof({name}) == {size});\n");
            for Field {
                name: field,
                offset,
                ..
            } in &s.fields
            {
                let found = format!("__builtin_offsetof({name}, {field})");
                text += &format!("static_assert({found} == {offset});\n");
            }
        }
        text
    }
}

/// `GELU_NEW` as `GeluNew`.
fn camel(name: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..].to_lowercase();
    name.split('_')
        .filter(|part| !part.is_empty())
        .map(word)
        .collect()
}

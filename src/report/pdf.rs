//! A figure as PDF: one page of the figure's size, its text as text.
//!
//! Each character that occurs is one glyph of a Type 3 font (ISO 32000-1, 9.6.5), drawn by its outline; a font
//! has room for 256, so that a figure of more has several. What they stand for is said, so that text can be
//! searched and copied.

use std::collections::BTreeSet;

use pdf_writer::types::UnicodeCmap;
use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str};
use ttf_parser::OutlineBuilder;

use super::colour::Rgb;
use super::scene::{Mark, Scene, face, glyph};

/// Points of PDF to a pixel of CSS.
const POINTS: f32 = 0.75;

/// How many characters a font has.
const OF_A_FONT: usize = 256;

/// The figure as a PDF file.
pub(super) fn document(scene: &Scene) -> Vec<u8> {
    let fonts = Fonts::of(scene);
    let mut next = 1;
    let mut id = || {
        next += 1;
        Ref::new(next - 1)
    };
    let (catalog, tree, page_id, contents) = (id(), id(), id(), id());
    let ids: Vec<Ref> = fonts.fonts.iter().map(|_| id()).collect();

    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree).kids([page_id]).count(1);
    let mut page = pdf.page(page_id);
    let size = Rect::new(0.0, 0.0, scene.width * POINTS, scene.height * POINTS);
    page.media_box(size).parent(tree).contents(contents);
    let mut resources = page.resources();
    let mut names = resources.fonts();
    for (index, font) in ids.iter().enumerate() {
        names.pair(Name(name(index).as_bytes()), *font);
    }
    names.finish();
    resources.finish();
    page.finish();

    let mut content = Content::new();
    // the page's origin is its lower left corner
    content.transform([POINTS, 0.0, 0.0, -POINTS, 0.0, scene.height * POINTS]);
    for mark in &scene.marks {
        draw(&mut content, mark, &fonts);
    }
    pdf.stream(contents, &content.finish());
    for (characters, font) in fonts.fonts.iter().zip(&ids) {
        write_font(&mut pdf, characters, *font, &mut id);
    }
    pdf.finish()
}

/// The characters of a figure, font by font.
struct Fonts {
    fonts: Vec<Vec<char>>,
}

impl Fonts {
    fn of(scene: &Scene) -> Self {
        let texts = scene.marks.iter().filter_map(|mark| match mark {
            Mark::Text { text, .. } => Some(text.chars()),
            _ => None,
        });
        let all: BTreeSet<char> = texts.flatten().collect();
        let all: Vec<char> = all.into_iter().collect();
        Self {
            fonts: all.chunks(OF_A_FONT).map(<[char]>::to_vec).collect(),
        }
    }

    /// Font and code of a character that occurs.
    fn place(&self, c: char) -> Option<(usize, u8)> {
        let of = |font: &Vec<char>| font.binary_search(&c).ok();
        let mut fonts = self.fonts.iter().enumerate();
        fonts.find_map(|(index, font)| Some((index, u8::try_from(of(font)?).ok()?)))
    }
}

/// A font's name on the page.
fn name(font: usize) -> String {
    format!("F{font}")
}

fn draw(content: &mut Content, mark: &Mark, fonts: &Fonts) {
    match mark {
        Mark::Rect {
            x,
            y,
            width,
            height,
            fill,
            ..
        } => {
            let [r, g, b] = ink(*fill);
            content.set_fill_rgb(r, g, b);
            content.rect(*x, *y, *width, *height).fill_nonzero();
        }
        Mark::Line {
            from,
            to,
            colour,
            width,
        } => {
            let [r, g, b] = ink(*colour);
            content.set_stroke_rgb(r, g, b).set_line_width(*width);
            content.move_to(from.0, from.1).line_to(to.0, to.1).stroke();
        }
        Mark::Text {
            x,
            y,
            size,
            anchor,
            turn,
            colour,
            text,
        } => {
            let back = anchor.before(text, *size);
            let [r, g, b] = ink(*colour);
            content.set_fill_rgb(r, g, b).begin_text();
            let (sin, cos) = turn.to_radians().sin_cos();
            // down is positive here, up in a font
            content.set_text_matrix([cos, sin, sin, -cos, x - back * cos, y - back * sin]);
            let mut run: (usize, Vec<u8>) = (0, Vec::new());
            let mut show = |(font, codes): &mut (usize, Vec<u8>)| {
                if !codes.is_empty() {
                    content.set_font(Name(name(*font).as_bytes()), *size);
                    content.show(Str(codes));
                    codes.clear();
                }
            };
            for (font, code) in text.chars().filter_map(|c| fonts.place(c)) {
                if font != run.0 {
                    show(&mut run);
                    run.0 = font;
                }
                run.1.push(code);
            }
            show(&mut run);
            content.end_text();
        }
    }
}

fn ink(colour: Rgb) -> [f32; 3] {
    colour.map(|channel| f32::from(channel) / 255.0)
}

/// Writes a font of these characters, of which the first has code 0.
fn write_font(pdf: &mut Pdf, characters: &[char], id: Ref, next: &mut impl FnMut() -> Ref) {
    let face = face();
    let advance = |c: char| f32::from(face.glyph_hor_advance(glyph(c)).unwrap_or_default());
    let glyphs: Vec<Ref> = characters.iter().map(|_| next()).collect();
    let unicode = next();
    let names: Vec<String> = (0..characters.len())
        .map(|code| format!("g{code}"))
        .collect();
    let bounds = face.global_bounding_box();
    let mut font = pdf.type3_font(id);
    let per_em = 1.0 / f32::from(face.units_per_em());
    font.bbox(Rect::new(
        bounds.x_min.into(),
        bounds.y_min.into(),
        bounds.x_max.into(),
        bounds.y_max.into(),
    ));
    font.matrix([per_em, 0.0, 0.0, per_em, 0.0, 0.0]);
    let mut procs = font.char_procs();
    for (name, glyph) in names.iter().zip(&glyphs) {
        procs.pair(Name(name.as_bytes()), *glyph);
    }
    procs.finish();
    let mut encoding = font.encoding_custom();
    let each = names.iter().map(|name| Name(name.as_bytes()));
    encoding.differences().consecutive(0, each);
    encoding.finish();
    let last = u8::try_from(characters.len().saturating_sub(1)).unwrap_or(u8::MAX);
    font.first_char(0).last_char(last);
    font.widths(characters.iter().map(|c| advance(*c)));
    font.to_unicode(unicode);
    font.finish();

    let mut map: UnicodeCmap<u8> = UnicodeCmap::new(
        Name(b"Characters"),
        pdf_writer::types::SystemInfo {
            registry: Str(b"headlight"),
            ordering: Str(b"characters"),
            supplement: 0,
        },
    );
    for (code, c) in (0..=u8::MAX).zip(characters) {
        map.pair(code, *c);
    }
    pdf.stream(unicode, &map.finish());
    for (c, id) in characters.iter().zip(glyphs) {
        let mut content = Content::new();
        content.start_color_glyph(advance(*c));
        let mut outline = Outline {
            content: &mut content,
            pen: (0.0, 0.0),
        };
        if face.outline_glyph(glyph(*c), &mut outline).is_some() {
            content.fill_nonzero();
        }
        pdf.stream(id, &content.finish());
    }
}

/// A glyph's outline, in units of the font. PDF has cubic curves only.
struct Outline<'a> {
    content: &'a mut Content,
    pen: (f32, f32),
}

impl OutlineBuilder for Outline<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        self.content.move_to(x, y);
        self.pen = (x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.content.line_to(x, y);
        self.pen = (x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let between = |from: f32, to: f32| from + (to - from) * 2.0 / 3.0;
        let (from_x, from_y) = self.pen;
        self.curve_to(
            between(from_x, x1),
            between(from_y, y1),
            between(x, x1),
            between(y, y1),
            x,
            y,
        );
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.content.cubic_to(x1, y1, x2, y2, x, y);
        self.pen = (x, y);
    }

    fn close(&mut self) {
        self.content.close_path();
    }
}

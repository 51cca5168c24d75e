//! Pages: what they embed, decoded by other code than wrote it, is the table, and text stays text.

use std::fs;

use headlight::report;
use headlight::report::{DrawnValue, FigureStyle, HeatMap, Page, ReportError};
use headlight::results::table::{Row, Table};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::tables::{ALL_HEADS, FIVE_TARGETS, OV, REFERENCE, Sweep, V, XL, toy};

/// A page, taken apart.
struct Opened {
    html: String,
    about: Value,
    cells: Vec<f32>,
    bases: Vec<f32>,
    edges: Vec<u32>,
}

/// What stands in the element of this id.
fn element<'h>(html: &'h str, id: &str) -> &'h str {
    let (_, rest) = html.split_once(&format!("id=\"{id}\">")).unwrap();
    rest.split_once("</script>").unwrap().0
}

/// Base64, digit by digit.
fn decoded(text: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit"),
    };
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        held = held << 6 | value(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

impl Opened {
    fn new(page: &Page) -> Self {
        let html = page.html();
        let words = |id| decoded(element(&html, id));
        let floats = |id| {
            let words = words(id);
            let floats = words.as_chunks::<4>().0.iter();
            floats.map(|x| f32::from_le_bytes(*x)).collect()
        };
        let edges = words("edges");
        Self {
            about: serde_json::from_str(element(&html, "about")).unwrap(),
            cells: floats("cells"),
            bases: floats("bases"),
            edges: edges
                .as_chunks::<4>()
                .0
                .iter()
                .map(|x| u32::from_le_bytes(*x))
                .collect(),
            html,
        }
    }

    fn of(table: &Table) -> Self {
        Self::new(&Page::new(table).unwrap())
    }

    /// Where the numbers of a view, a column and a target begin.
    fn start(&self, view: usize, value: usize, target: usize) -> usize {
        let column = &self.about["values"][value];
        let number = |of: &Value| of.as_u64().unwrap() as usize;
        let own = if number(&column["targets"]) > 1 {
            target
        } else {
            0
        };
        view * number(&self.about["stride"])
            + number(&column["offset"])
            + own * number(&self.about["cells"])
    }

    /// Which column has this name.
    fn value(&self, name: &str) -> usize {
        let mut values = self.about["values"].as_array().unwrap().iter();
        values.position(|value| value["name"] == name).unwrap()
    }

    /// Where a row's cell stands.
    fn cell(&self, row: &Row) -> usize {
        for facet in self.about["facets"].as_array().unwrap() {
            let rows = facet["rows"].as_array().unwrap();
            let groups = facet["groups"].as_array().unwrap();
            let heads = facet["heads"].as_array().unwrap();
            let line = rows.iter().position(|line| {
                line["component"] == row.component.as_deref().unwrap()
                    && line["layer"].as_u64() == row.layer.map(u64::from)
            });
            let group = groups
                .iter()
                .position(|group| group["position"].as_u64() == row.position.map(u64::from));
            let head = match heads.len() {
                1 => Some(0),
                _ => heads
                    .iter()
                    .position(|head| head.as_str() == row.head.map(|h| h.to_string()).as_deref()),
            };
            if let (Some(line), Some(group), Some(head)) = (line, group, head) {
                let offset = facet["offset"].as_u64().unwrap() as usize;
                return offset + (line * groups.len() + group) * heads.len() + head;
            }
        }
        panic!("no cell of {row:?}");
    }
}

/// Every number of every row, in its pair's view, is the table's as f32; and nothing else is there.
#[test]
fn numbers_are_the_tables_bit_for_bit() {
    let several = Sweep {
        pairs: 3,
        ..REFERENCE
    };
    let tables = [
        REFERENCE.table(),
        ALL_HEADS.table(),
        FIVE_TARGETS.table(),
        several.table(),
        toy(),
    ];
    for table in tables {
        let page = Opened::of(&table);
        let pairs = table.provenance.pairs.len();
        let several = usize::from(pairs > 1);
        let targets = page.about["targets"].as_array().unwrap().len();
        let mut seen = 0;
        let mut target = 0;
        let mut before = None;
        for row in &table.rows {
            target = match before == Some((row.pair, row.run)) {
                true => target + 1,
                false => 0,
            };
            before = Some((row.pair, row.run));
            let cell = page.cell(row);
            let named = table.metrics.iter().zip(&row.metrics);
            let fields = [
                ("prob", row.prob),
                ("logprob", row.logprob),
                ("logit", row.logit),
            ];
            let named = named.map(|(name, x)| (name.as_str(), *x)).chain(fields);
            for (name, x) in named {
                let at = page.start(row.pair as usize + several, page.value(name), target) + cell;
                assert_eq!(page.cells[at].to_bits(), (x as f32).to_bits(), "{name}");
                seen += usize::from(target == 0 || fields.iter().any(|(field, _)| *field == name));
            }
        }
        let finite = page.cells.iter().filter(|x| !x.is_nan()).count();
        let mean = if pairs > 1 { finite / (pairs + 1) } else { 0 };
        assert_eq!(finite - mean, seen, "{targets} targets of {pairs} pairs");
        assert_eq!(page.bases.is_empty(), pairs == 1);
    }
}

/// The mean over pairs is the picture's, and so are labels and the order of rows, columns and facets.
#[test]
fn a_page_shows_what_the_picture_shows() {
    let three = Sweep {
        pairs: 3,
        ..REFERENCE
    };
    let mixed = Sweep {
        components: &["query_output", V, OV, "attention_output", "mlp_output"],
        heads: 0..3,
        ..REFERENCE
    };
    for table in [three.table(), mixed.table(), XL.table()] {
        let page = Opened::of(&table);
        for value in ["prob", "logit_diff", "logit"] {
            let map = HeatMap::new(&table, &DrawnValue::of(value)).unwrap();
            let facets = page.about["facets"].as_array().unwrap();
            let mut drawn = map.facets.iter();
            for facet in facets {
                for target in 0..map.per_row {
                    let picture = drawn.next().unwrap();
                    let labels = |of: &Value| -> Vec<String> {
                        let labels = of.as_array().unwrap().iter();
                        labels
                            .map(|one| one["label"].as_str().unwrap().to_owned())
                            .collect()
                    };
                    assert_eq!(labels(&facet["rows"]), picture.rows);
                    let groups = picture.groups.iter().map(|group| group.label.clone());
                    assert_eq!(labels(&facet["groups"]), groups.collect::<Vec<_>>());
                    let from = page.start(0, page.value(value), target)
                        + facet["offset"].as_u64().unwrap() as usize;
                    let own = &page.cells[from..][..picture.cells.len()];
                    for (own, drawn) in own.iter().zip(&picture.cells) {
                        let drawn = drawn.map_or(f32::NAN, |x| x as f32);
                        assert!(own.to_bits() == drawn.to_bits() || own.is_nan() && drawn.is_nan());
                    }
                }
            }
            assert!(drawn.next().is_none());
        }
    }
}

const CODE: &str =
    "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>{{cells}}&lt;'\"`";

/// Text that is code is text: the page has its own elements and no others, and what was said comes back.
#[test]
fn text_that_is_code_stays_text() {
    let mut table = REFERENCE.table();
    let plain = Opened::of(&table).html;
    let about = &mut table.provenance;
    about.model = CODE.to_owned();
    about.command = CODE.to_owned();
    for pair in &mut about.pairs {
        pair.base_text = Some(CODE.to_owned());
        pair.base_tokens[3] = CODE.to_owned();
        pair.id = Some(CODE.to_owned());
    }
    for row in &mut table.rows {
        row.target = CODE.into();
        row.op = Some(CODE.into());
        row.patches = CODE.into();
        if row.position == Some(3) {
            row.token = Some(CODE.into());
            row.position_name = Some(CODE.into());
        } else {
            row.position_name = Some("".into());
        }
    }
    let page = Opened::of(&table);
    // between the script's own text, which holds neither
    for what in ["<script", "</script", "<img", "<!--"] {
        let count = |html: &str| html.matches(what).count();
        assert_eq!(count(&page.html), count(&plain), "{what}");
    }
    let title = page.html.split("<title>").nth(1).unwrap();
    assert!(
        title.starts_with("“&lt;/script&gt;&lt;script&gt;"),
        "{}",
        &title[..80]
    );
    assert_eq!(page.about["views"][0]["base"]["text"], CODE);
    assert_eq!(page.about["facets"][0]["op"], CODE);
    // which no patch of ours says
    assert!(page.about["runs"].is_null());
    let shown = CODE.replace(' ', "_");
    assert_eq!(page.about["targets"][0], *shown);
    let groups = page.about["facets"][0]["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["label"] == *shown));
}

/// The browser is told to run and load nothing but what is here.
#[test]
fn the_policy_allows_this_script_alone() {
    let html = Opened::of(&REFERENCE.table()).html;
    let (_, policy) = html.split_once("content=\"default-src 'none'").unwrap();
    let policy = policy.split_once('"').unwrap().0;
    for (open, close, directive) in [
        ("<script>", "</script>", "script-src"),
        ("<style>", "</style>", "style-src"),
    ] {
        let (_, text) = html.split_once(open).unwrap();
        let text = text.split_once(close).unwrap().0;
        let (_, rest) = policy.split_once(directive).unwrap();
        let coded = rest.strip_prefix(" 'sha256-").unwrap();
        let coded = coded.split_once('\'').unwrap().0;
        assert_eq!(decoded(coded), Sha256::digest(text.as_bytes()).as_slice());
    }
    for foreign in ["unsafe", "http:", "https:", "ws:"] {
        assert!(!policy.contains(foreign), "{policy}");
    }
    // what would load something by itself
    for foreign in [
        " src=",
        "@import",
        "url(",
        "fetch(",
        "XMLHttpRequest",
        "import(",
    ] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

/// Edges become a graph: the same number for each, senders and receivers by name.
#[test]
fn edges_become_a_graph() {
    let names = [
        "input->a0.h1<q>",
        "a0.h1->m0@2",
        "m0->logits",
        "a0.h1->logits",
    ];
    let row = |run: u32, name: &str| Row {
        run,
        name: Some(name.into()),
        component: Some("block_output".into()),
        layer: Some(0),
        target: " Rome".into(),
        prob: f64::from(run) / 7.0,
        base_prob: 0.5,
        ..Row::default()
    };
    let rows = names.iter().zip(0..).map(|(name, run)| row(run, name));
    let mut table = Table {
        rows: rows.collect(),
        ..Table::default()
    };
    let page = Opened::of(&table);
    assert_eq!(page.about["kind"], "edges");
    let graph = &page.about["graph"];
    for (edge, name) in page.edges.chunks(3).zip(names) {
        let sender = &graph["nodes"][edge[0] as usize];
        let receiver = &graph["receivers"][edge[1] as usize];
        let at = match edge[2] {
            u32::MAX => String::new(),
            position => format!("@{position}"),
        };
        let back = format!(
            "{}->{}{at}",
            sender.as_str().unwrap(),
            receiver[0].as_str().unwrap()
        );
        assert_eq!(back, name);
        let node = &graph["nodes"][receiver[1].as_u64().unwrap() as usize];
        assert!(
            receiver[0]
                .as_str()
                .unwrap()
                .starts_with(node.as_str().unwrap())
        );
    }
    let from = page.start(0, page.value("prob"), 0);
    for (own, row) in page.cells[from..].iter().zip(&table.rows) {
        assert_eq!(own.to_bits(), (row.prob as f32).to_bits());
    }
    // what is no edge is said
    table.rows.push(row(4, "something else"));
    let page = Opened::of(&table);
    assert!(
        page.about["notes"]
            .to_string()
            .contains("1 rows of no edge")
    );
}

#[test]
fn what_cannot_be_a_page_is_refused() {
    let nothing = Page::new(&Table::default());
    assert!(matches!(nothing, Err(ReportError::NothingToPlot(_))));
    let unknown = Page::new(&REFERENCE.table()).unwrap().showing("nothing");
    let said = unknown.err().unwrap().to_string();
    assert!(
        said.contains("kl, logit_diff, prob, logprob, logit"),
        "{said}"
    );
    let map = HeatMap::new(&REFERENCE.table(), &DrawnValue::of("prob")).unwrap();
    let said = report::plot(&map, "a.html".as_ref()).unwrap_err();
    assert!(said.to_string().contains(".svg, .png or .pdf"), "{said}");
}

/// `HEADLIGHT_PLOTS=DIR cargo test` keeps pages to be looked at.
#[test]
fn pages_are_written_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("HEADLIGHT_PLOTS");
    let folder = kept.as_deref().map_or(scratch.path(), AsRef::as_ref);
    for (name, table) in [
        ("reference", REFERENCE.table()),
        ("all-heads", ALL_HEADS.table()),
        ("xl", XL.table()),
    ] {
        let path = folder.join(format!("{name}.html"));
        let look = (&DrawnValue::of("logit_diff"), &FigureStyle::default());
        report::plot_table(&table, look, &path).unwrap();
        let html = fs::read_to_string(path).unwrap();
        assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"));
        assert!(html.len() < 12 << 20, "{name}: {}", html.len());
    }
}

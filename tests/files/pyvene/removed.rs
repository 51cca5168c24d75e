//! A save whose parametrization was removed (`torch.nn.utils.parametrize.remove_parametrizations`): its
//! `rotate_layer.weight` is W itself, square or low-rank, and however its storage lies.

use std::io::{Cursor, Write};

use super::{Case, cases, folder, tensors};
use crate::lab::Lab;

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn number(pickle: &mut Vec<u8>, number: usize) {
    pickle.push(b'J');
    pickle.extend((number as u32).to_le_bytes());
}

/// A tensor as `torch.save` writes it: its storage, an offset, sizes and strides.
fn tensor(pickle: &mut Vec<u8>, storage: (&str, &str), count: usize, layout: [&[usize]; 2]) {
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(pickle, "storage");
    pickle.extend(format!("ctorch\n{}\n", storage.0).bytes());
    text(pickle, storage.1);
    text(pickle, "cpu");
    number(pickle, count);
    pickle.extend(b"tQ");
    number(pickle, 0);
    for sizes in layout {
        pickle.push(b'(');
        sizes.iter().for_each(|size| number(pickle, *size));
        pickle.push(b't');
    }
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

/// A state dict of `embed_dim` and W alone. W's storage is column by column where torch left it so, as it
/// leaves a transposed product.
fn state_dict(width: usize, [rows, columns]: [usize; 2], w: &[f64], turned: bool) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    text(&mut pickle, "embed_dim");
    tensor(&mut pickle, ("LongStorage", "0"), 1, [&[], &[]]);
    text(&mut pickle, "rotate_layer.weight");
    let strides = if turned { [1, rows] } else { [columns, 1] };
    let layout: [&[usize]; 2] = [&[rows, columns], &strides];
    tensor(&mut pickle, ("DoubleStorage", "1"), w.len(), layout);
    pickle.extend(b"u.");
    let at = |i: usize| match turned {
        true => w[i % rows * columns + i / rows],
        false => w[i],
    };
    let values: Vec<u8> = (0..w.len()).flat_map(|i| at(i).to_le_bytes()).collect();
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let entries = [
        ("a/data.pkl", pickle),
        ("a/byteorder", b"little".to_vec()),
        ("a/data/0", (width as u64).to_le_bytes().to_vec()),
        ("a/data/1", values),
        ("a/version", b"3\n".to_vec()),
    ];
    for (name, bytes) in entries {
        zip.start_file(name, stored).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A case's save with W in place of what W is made of, imported from there: its basis and its run's numbers.
fn imported(lab: &Lab, case: &Case, turned: bool) -> (Vec<f64>, Vec<u64>) {
    let recorded = tensors(&std::fs::read(folder().join("parameters.safetensors")).unwrap());
    let named =
        |name: &str| name.starts_with(&format!("{}.", case.name)) && name.ends_with("rotation");
    let (_, shape, w) = recorded.iter().find(|(name, ..)| named(name)).unwrap();
    let saved = lab.path(&case.name);
    std::fs::create_dir_all(&saved).unwrap();
    for file in std::fs::read_dir(folder().join(&case.name)).unwrap() {
        let path = file.unwrap().path();
        let to = saved.join(path.file_name().unwrap());
        match path.extension().is_some_and(|ending| ending == "bin") {
            true => {
                let bytes = state_dict(shape[0], [shape[0], shape[1]], w, turned);
                std::fs::write(to, bytes).unwrap();
            }
            false => drop(std::fs::copy(path, to).unwrap()),
        }
    }
    case.import_from(lab, &saved);
    let made = std::fs::read(lab.path(&format!("{}.safetensors", case.name))).unwrap();
    let (_, shape_here, here) = tensors(&made).swap_remove(0);
    assert_eq!(shape_here, *shape, "{}", case.name);
    assert_eq!(here, *w, "{}: W is taken as it is", case.name);
    let file = format!("{}.toml", case.name);
    let model = crate::lab::fixture("tied");
    let rows = lab.rows("run", &["--model", &model, "--precision", "f64", &file]);
    let logprobs: Vec<f64> = rows.iter().map(|row| row.logprob).collect();
    for (ours, theirs) in logprobs.iter().zip(&case.logprobs) {
        assert!(
            (ours - theirs).abs() <= case.tolerance,
            "{}: {ours} {theirs}",
            case.name
        );
    }
    (here, logprobs.iter().map(|x| x.to_bits()).collect())
}

#[test]
fn a_rotation_without_its_parametrization_is_the_same_rotation() {
    let lab = Lab::new();
    let names = ["rotated", "low_rank", "low_rank_square", "head_rotated_f64"];
    for name in names {
        let case = cases().into_iter().find(|case| case.name == name).unwrap();
        let straight = imported(&lab, &case, false);
        assert_eq!(imported(&lab, &case, true), straight, "{name}");
    }
}

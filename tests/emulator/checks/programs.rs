//! Random programs: a race is reported exactly where the definition of a race says so.

use super::*;

/// One access of a program for planted/programs.cu, with what its thread had synchronised by then.
struct Access {
    block: usize,
    thread: usize,
    block_barriers: usize,
    warp_barriers: usize,
    write: bool,
    atomic: bool,
    bytes: std::ops::Range<u32>,
}

impl Access {
    /// Whether nothing orders the two, straight from the definition.
    fn races_with(&self, other: &Access, shared: bool) -> bool {
        let overlap = self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end;
        let conflict = overlap && (self.write || other.write) && !(self.atomic && other.atomic);
        if self.block != other.block {
            return conflict && !shared;
        }
        let ordered = self.thread == other.thread
            || self.block_barriers != other.block_barriers
            || (self.thread / 32 == other.thread / 32 && self.warp_barriers != other.warp_barriers);
        conflict && !ordered
    }
}

/// A program of so many rounds, and whether it races.
fn random_program(seed: u32, blocks: usize, rounds: usize, shared: bool) -> (Vec<u32>, bool) {
    let mut state = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let mut draw = |n: u32| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        ((u64::from(state) * u64::from(n)) >> 32) as u32
    };
    let (mut words, mut accesses) = (Vec::new(), Vec::new());
    for block in 0..blocks {
        let (mut block_barriers, mut warp_barriers) = (0, [0; 2]);
        for _ in 0..rounds {
            let block_barrier = draw(3) == 0;
            let warp_barrier = [draw(2) == 0, draw(2) == 0];
            for thread in 0..64 {
                let mut operation = if draw(24) == 0 { 1 + draw(8) } else { 0 };
                if operation > 3 {
                    operation = 1 + u32::from(operation > 7); // mostly reads
                }
                let (half, upper, place) = (operation < 3 && draw(2) == 0, draw(2), draw(48));
                if operation > 0 {
                    let start = place * 4 + if half { upper * 2 } else { 0 };
                    accesses.push(Access {
                        block,
                        thread,
                        block_barriers,
                        warp_barriers: warp_barriers[thread / 32],
                        write: operation > 1,
                        atomic: operation == 3,
                        bytes: start..start + if half { 2 } else { 4 },
                    });
                }
                let then = match (block_barrier, warp_barrier[thread / 32]) {
                    (true, _) => 2,
                    (_, true) => 1,
                    _ => 0,
                };
                words.push(operation | u32::from(half) << 2 | upper << 3 | then << 4 | place << 8);
            }
            block_barriers += usize::from(block_barrier);
            for warp in 0..2 {
                warp_barriers[warp] += usize::from(warp_barrier[warp]);
            }
        }
    }
    let races =
        (0..accesses.len()).any(|i| (0..i).any(|k| accesses[i].races_with(&accesses[k], shared)));
    (words, races)
}

#[test]
fn a_random_program_is_reported_exactly_if_it_races() {
    let (driver, _alone) = driver();
    let mut racing = 0;
    let programs = std::env::var("HEADLIGHT_EMULATOR_PROGRAMS").map_or(400, |n| n.parse().unwrap());
    for number in 0..programs {
        let shared = number % 2 == 0;
        let (blocks, rounds) = (1 + number as usize / 2 % 2, 2 + number as usize / 4 % 5);
        let (words, races) = random_program(number, blocks, rounds, shared);
        racing += u32::from(races);
        let kernel = if shared {
            "program_in_shared"
        } else {
            "program_in_global"
        };
        for seed in 0..5 {
            driver.reset();
            driver.seed(seed);
            let context = driver.context();
            let buffers = [
                context.upload(&words),
                context.upload(&[0u32; 64]),
                context.allocate(blocks * 256).unwrap(),
            ];
            let [program, memory, sink] = buffers.map(Pointer);
            let arguments = [program, U32(rounds as u32), memory, sink];
            assert_eq!(context.launch(kernel, blocks as u32, 64, 0, &arguments), 0);
            let failed = context.synchronise() != 0;
            let reports = driver.reports();
            assert_eq!(
                failed, races,
                "program {number}, schedule {seed}: {reports}"
            );
            assert_eq!(reports.starts_with("race"), races, "{reports}");
            for buffer in buffers {
                context.free(buffer);
            }
        }
    }
    assert!(
        programs / 5 < racing && racing < programs * 4 / 5,
        "{racing} of {programs} race"
    );
}

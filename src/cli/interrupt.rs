//! Ctrl-C, and whoever else asks a process to end: it ends at once, whatever it is doing.
//!
//! What runs on the device stops between two layers by itself and says what became of its files. Reading, planning,
//! hashing and writing look at no flag, so that they cannot forget to: where the process is still there after a
//! moment, it is ended from here. Files in the making go, and those that are getting their names get them first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{note, progress, stopping};
use crate::files::parts;

/// How long whoever was asked may take.
const GRACE: Duration = Duration::from_millis(150);

/// Flags of those who look.
static FLAGS: Mutex<Vec<Arc<AtomicBool>>> = Mutex::new(Vec::new());
static ASKED: AtomicBool = AtomicBool::new(false);
/// Whether the end has been said.
static SAID: AtomicBool = AtomicBool::new(false);
/// Whether rows stand on standard output.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// Listens for the rest of the process, as `main` asks first.
pub fn watch() {
    let ignored = hangups_are_ignored();
    // fails only if a handler exists already, as in a test that sets up twice
    let _ = ctrlc::set_handler(asked);
    if ignored {
        ignore_hangups();
    }
    watch_batch_systems();
}

/// What a signal does, on a thread of its own.
fn asked() {
    // a run in a folder keeps what there is, and ends
    stopping::stop();
    // a second one does not wait
    if !ASKED.swap(true, Ordering::SeqCst) {
        for flag in FLAGS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            flag.store(true, Ordering::Relaxed);
        }
        thread::sleep(GRACE);
    }
    end();
}

/// SIGUSR1, which batch systems send before the time is up, asks as SIGTERM does.
#[cfg(unix)]
fn watch_batch_systems() {
    use signal_hook::consts::SIGUSR1;
    use signal_hook::iterator::Signals;

    let Ok(mut signals) = Signals::new([SIGUSR1]) else {
        return;
    };
    thread::spawn(move || {
        for _ in signals.forever() {
            asked();
        }
    });
}

/// There is no such signal.
#[cfg(not(unix))]
fn watch_batch_systems() {}

/// Sets this flag when somebody asks.
pub fn stops(flag: Arc<AtomicBool>) {
    let mut flags = FLAGS.lock().unwrap_or_else(PoisonError::into_inner);
    flag.store(ASKED.load(Ordering::SeqCst), Ordering::Relaxed);
    flags.push(flag);
}

/// Rows go to standard output from now on, and are there when the process ends.
pub fn prints() {
    PRINTED.store(true, Ordering::Relaxed);
}

/// Ends the process, in a sentence that says what became of its files.
pub fn end() -> ! {
    if SAID.swap(true, Ordering::SeqCst) {
        // whoever says it ends the process
        loop {
            thread::park();
        }
    }
    progress::stopped();
    let named: Vec<String> = parts::abandon()
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let said = match (PRINTED.load(Ordering::Relaxed), &named[..]) {
        (true, _) => "the table on standard output is not whole".to_owned(),
        (false, []) => "nothing was written".to_owned(),
        (false, some) => format!("written before that: {}", some.join(", ")),
    };
    note(format_args!("headlight: interrupted; {said}"));
    leave()
}

#[cfg(unix)]
fn leave() -> ! {
    // without what runs at the end of a process, which may wait for a device or another thread
    // SAFETY: ends the process; nothing is touched afterwards
    unsafe { libc::_exit(130) }
}

#[cfg(not(unix))]
fn leave() -> ! {
    std::process::exit(130)
}

/// Whether the process was started with hangups ignored, as nohup does it.
#[cfg(unix)]
fn hangups_are_ignored() -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and `now` is of the type that is filled in
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: filled in, or zeroed, which is a value of it
    let now = unsafe { now.assume_init() };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}

#[cfg(unix)]
fn ignore_hangups() {
    // SAFETY: ignoring a signal runs no code of ours
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn hangups_are_ignored() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangups() {}

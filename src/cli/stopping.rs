//! What is still done when a signal asks to stop: a folder's open part is closed, and the process ends with 75.

use std::process::exit;
use std::sync::{Mutex, PoisonError};

use super::progress;

/// Exit code of a run that was stopped with its parts kept, as sysexits calls a failure that is worth another try.
const STOPPED: i32 = 75;

/// Closes what is open, and says so.
type Close = Box<dyn FnMut() + Send>;

static CLOSE: Mutex<Option<Close>> = Mutex::new(None);

/// From now on a signal closes this and ends the process; nothing lets signals be what they were.
pub fn at_stop(close: Option<Close>) {
    *CLOSE.lock().unwrap_or_else(PoisonError::into_inner) = close;
}

/// Ends the process if a folder is written; on the thread of whoever caught the signal.
pub fn stop() {
    let mut close = CLOSE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(close) = &mut *close {
        progress::stopped();
        close();
        exit(STOPPED);
    }
}

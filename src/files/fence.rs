//! A fence round the parquet crate, which panics on some damaged files.

use std::any::Any;
use std::cell::Cell as Flag;
use std::panic;
use std::sync::Once;

/// Runs `work`, turning a panic into an error without a word on standard error. Nothing can where
/// panics abort, as in the demo profile, which is for the build without Parquet.
pub(crate) fn fenced<T>(
    work: impl FnOnce() -> T + panic::UnwindSafe,
) -> Result<T, Box<dyn Any + Send>> {
    thread_local!(static SILENT: Flag<bool> = const { Flag::new(false) });
    static HOOK: Once = Once::new();
    // The hook is the process's, so it is put in once and passes everything on except what this
    // thread says while inside the fence.
    HOOK.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !SILENT.get() {
                earlier(info);
            }
        }));
    });
    SILENT.set(true);
    let outcome = panic::catch_unwind(work);
    SILENT.set(false);
    outcome
}

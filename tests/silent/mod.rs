//! Builds and loads a CUDA driver that computes nothing: for the host's own time, and for what a device is
//! asked to do (`driver.cpp`).

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What has been asked of the device. Mirrors `Counts` of driver.cpp.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Kernels launched.
    pub launches: u64,
    /// Copies to the device.
    pub to_device: u64,
    /// Bytes of them.
    pub bytes_to_device: u64,
    /// Copies back.
    pub to_host: u64,
    /// Bytes of them.
    pub bytes_to_host: u64,
    /// How often the host waited for the device, which has done nothing that nobody has waited for.
    pub waits: u64,
    /// Allocations on the device.
    pub allocations: u64,
    /// Of which so many were freed.
    pub frees: u64,
    /// Nanoseconds from the last [`Silent::take`] to the first launch; 0 where there was none.
    pub first_launch: u64,
    /// Bytes that the memory pool does not give back when somebody waits.
    pub kept: u64,
}

/// The driver, loaded for the whole process: `dlopen("libcuda.so.1")` finds it from then on.
#[derive(Debug, Clone, Copy)]
pub struct Silent {
    counts: unsafe extern "C" fn(*mut Counts, c_int),
}

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

impl Silent {
    /// Builds the driver in a folder and loads it.
    pub fn load(folder: &Path) -> Self {
        let path = CString::new(build(folder).to_str().expect("a path in UTF-8")).unwrap();
        const NOW_AND_GLOBAL: c_int = 2 | 0x100;
        // SAFETY: a NUL-terminated path; the library has no constructors.
        let library = unsafe { dlopen(path.as_ptr(), NOW_AND_GLOBAL) };
        assert!(!library.is_null(), "the silent driver does not load");
        // SAFETY: the library is live (it is never closed), the name NUL-terminated.
        let counts = unsafe { dlsym(library, c"headlight_silent_counts".as_ptr()) };
        assert!(!counts.is_null());
        // SAFETY: the symbol is driver.cpp's function of that name, whose C signature this is.
        let counts = unsafe {
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut Counts, c_int)>(counts)
        };
        Self { counts }
    }

    /// What was counted since the last call, which begins anew.
    pub fn take(&self) -> Counts {
        let mut counts = Counts::default();
        // SAFETY: a live `Counts`, which has the layout that the driver fills.
        unsafe { (self.counts)(&mut counts, 1) };
        counts
    }
}

fn build(folder: &Path) -> PathBuf {
    let library = folder.join("libcuda.so.1");
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/silent/driver.cpp");
    let status = Command::new(&compiler)
        .args([
            "-std=c++17",
            "-O2",
            "-shared",
            "-fPIC",
            "-Wl,-soname,libcuda.so.1",
            "-o",
        ])
        .args([&library, &source])
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the silent driver is built with a C++ compiler, and `{compiler}` does not build it"
    );
    library
}

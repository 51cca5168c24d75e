//! The emulated driver called as it is, without cudarc: for tests of the emulator itself, and for the
//! questions that only it answers (what was reported, which schedule).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

pub type Pointer = u64;
pub const OUT_OF_MEMORY: i32 = 2;
pub const NOT_FOUND: i32 = 500;
pub const NOT_READY: i32 = 600;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

/// Symbols of the loaded library.
#[derive(Clone, Copy)]
pub struct Driver {
    library: *mut c_void,
}

// SAFETY: a handle of the dynamic loader may be used from any thread, and the driver locks itself.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

/// One argument of a launch, as the bytes that the kernel takes.
pub enum Argument {
    Pointer(Pointer),
    U32(u32),
    F32(f32),
    /// A row-major `View`: data, columns.
    View(Pointer, u32),
}

/// `View` of kernels/common.cuh.
#[repr(C)]
struct View {
    data: Pointer,
    segment_stride: u64,
    row_stride: u32,
    segment: u32,
}

macro_rules! call {
    ($driver:expr, $name:literal, ($($type:ty),*), $($argument:expr),*) => {{
        let function = $driver.symbol($name);
        // SAFETY: the symbol is the driver's function of that name, whose C signature this is.
        let function: unsafe extern "C" fn($($type),*) -> c_int = unsafe { std::mem::transmute(function) };
        // SAFETY: every pointer among the arguments is to a live value of the caller.
        unsafe { function($($argument),*) }
    }};
}

impl Driver {
    pub fn open(library: &Path) -> Self {
        let path = CString::new(library.to_str().expect("a path in UTF-8")).unwrap();
        const NOW_AND_GLOBAL: c_int = 2 | 0x100;
        // SAFETY: a NUL-terminated path; the library's constructors register kernels and do no more.
        let handle = unsafe { dlopen(path.as_ptr(), NOW_AND_GLOBAL) };
        if handle.is_null() {
            // SAFETY: after a failure dlerror() returns a NUL-terminated text.
            panic!("{}", unsafe { CStr::from_ptr(dlerror()) }.to_string_lossy());
        }
        Driver { library: handle }
    }

    fn symbol(&self, name: &str) -> *mut c_void {
        let name = CString::new(name).unwrap();
        // SAFETY: the handle is live (the library is never closed), the name NUL-terminated.
        let symbol = unsafe { dlsym(self.library, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?} is not in the emulated driver");
        symbol
    }

    /// Everything reported since the last reset; empty when all is well.
    pub fn reports(&self) -> String {
        let function = self.symbol("headlight_emulator_reports");
        // SAFETY: the symbol's C signature is this one.
        let function: unsafe extern "C" fn() -> *const c_char =
            unsafe { std::mem::transmute(function) };
        // SAFETY: it returns a NUL-terminated text that lives until this thread calls it again.
        unsafe { CStr::from_ptr(function()) }
            .to_string_lossy()
            .into_owned()
    }

    /// Forgets the reports and the error that sticks to the context.
    pub fn reset(&self) {
        call!(self, "headlight_emulator_reset", (),);
    }

    /// Keeps reports from stderr, where many are expected.
    pub fn quiet(&self, quiet: bool) {
        call!(
            self,
            "headlight_emulator_quiet",
            (c_int),
            c_int::from(quiet)
        );
    }

    /// Chooses the schedule of the launches from here on.
    pub fn seed(&self, seed: u64) {
        call!(self, "headlight_emulator_seed", (u64), seed);
    }

    pub fn init(&self) -> i32 {
        call!(self, "cuInit", (u32), 0)
    }

    pub fn device_count(&self) -> (i32, i32) {
        let mut count = -1;
        (
            call!(self, "cuDeviceGetCount", (*mut c_int), &mut count),
            count,
        )
    }

    pub fn driver_version(&self) -> i32 {
        let mut version = 0;
        call!(self, "cuDriverGetVersion", (*mut c_int), &mut version);
        version
    }

    pub fn capability(&self) -> (i32, i32) {
        let (mut major, mut minor) = (0, 0);
        call!(
            self,
            "cuDeviceComputeCapability",
            (*mut c_int, *mut c_int, c_int),
            &mut major,
            &mut minor,
            0
        );
        (major, minor)
    }

    /// A context with the kernels loaded. Dropping it releases the context, which reports leaks.
    pub fn context(&self) -> Context {
        let mut context = ptr::null_mut();
        assert_eq!(
            call!(
                self,
                "cuDevicePrimaryCtxRetain",
                (*mut *mut c_void, c_int),
                &mut context,
                0
            ),
            0
        );
        let mut module = ptr::null_mut();
        let image = c"no image".as_ptr();
        let result = call!(
            self,
            "cuModuleLoadData",
            (*mut *mut c_void, *const c_char),
            &mut module,
            image
        );
        assert_eq!(result, 0, "{}", self.reports());
        Context {
            driver: *self,
            module,
        }
    }
}

pub struct Context {
    driver: Driver,
    module: *mut c_void,
}

impl Drop for Context {
    fn drop(&mut self) {
        call!(self.driver, "cuModuleUnload", (*mut c_void), self.module);
        call!(self.driver, "cuDevicePrimaryCtxRelease_v2", (c_int), 0);
    }
}

impl Context {
    pub fn allocate(&self, bytes: usize) -> Result<Pointer, i32> {
        let mut pointer = 0;
        match call!(
            self.driver,
            "cuMemAlloc_v2",
            (*mut Pointer, usize),
            &mut pointer,
            bytes
        ) {
            0 => Ok(pointer),
            error => Err(error),
        }
    }

    pub fn free(&self, pointer: Pointer) -> i32 {
        call!(self.driver, "cuMemFree_v2", (Pointer), pointer)
    }

    pub fn write<T: Copy>(&self, to: Pointer, values: &[T]) -> i32 {
        let from = values.as_ptr().cast::<c_void>();
        let bytes = size_of_val(values);
        call!(
            self.driver,
            "cuMemcpyHtoD_v2",
            (Pointer, *const c_void, usize),
            to,
            from,
            bytes
        )
    }

    pub fn upload<T: Copy>(&self, values: &[T]) -> Pointer {
        let pointer = self.allocate(size_of_val(values)).unwrap();
        assert_eq!(self.write(pointer, values), 0);
        pointer
    }

    pub fn download(&self, from: Pointer, count: usize) -> Result<Vec<f32>, i32> {
        let mut values = vec![0f32; count];
        let to = values.as_mut_ptr().cast::<c_void>();
        match call!(
            self.driver,
            "cuMemcpyDtoH_v2",
            (*mut c_void, Pointer, usize),
            to,
            from,
            count * 4
        ) {
            0 => Ok(values),
            error => Err(error),
        }
    }

    pub fn function(&self, name: &str) -> Result<*mut c_void, i32> {
        let name = CString::new(name).unwrap();
        let mut function = ptr::null_mut();
        let result = call!(
            self.driver,
            "cuModuleGetFunction",
            (*mut *mut c_void, *mut c_void, *const c_char),
            &mut function,
            self.module,
            name.as_ptr()
        );
        if result == 0 {
            Ok(function)
        } else {
            Err(result)
        }
    }

    pub fn allow_dynamic_shared(&self, kernel: &str, bytes: i32) -> i32 {
        let function = self.function(kernel).unwrap();
        call!(
            self.driver,
            "cuFuncSetAttribute",
            (*mut c_void, c_int, c_int),
            function,
            8,
            bytes
        )
    }

    /// What cuLaunchKernel returns; errors inside of the kernel come with `synchronise`.
    pub fn launch(
        &self,
        kernel: &str,
        grid: u32,
        block: u32,
        shared: u32,
        arguments: &[Argument],
    ) -> i32 {
        self.launch_on(
            ptr::null_mut(),
            kernel,
            [grid, 1, 1],
            [block, 1, 1],
            shared,
            arguments,
        )
    }

    pub fn launch_on(
        &self,
        stream: *mut c_void,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[Argument],
    ) -> i32 {
        let bytes: Vec<Vec<u8>> = arguments.iter().map(Argument::bytes).collect();
        let mut pointers: Vec<*const u8> = bytes.iter().map(|b| b.as_ptr()).collect();
        let function = self
            .function(kernel)
            .unwrap_or_else(|e| panic!("{kernel}: error {e}"));
        call!(
            self.driver,
            "cuLaunchKernel",
            (
                *mut c_void,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                u32,
                *mut c_void,
                *mut *const u8,
                *mut *mut c_void
            ),
            function,
            grid[0],
            grid[1],
            grid[2],
            block[0],
            block[1],
            block[2],
            shared,
            stream,
            pointers.as_mut_ptr(),
            ptr::null_mut()
        )
    }

    pub fn synchronise(&self) -> i32 {
        call!(self.driver, "cuCtxSynchronize", (),)
    }

    pub fn stream(&self) -> *mut c_void {
        let mut stream = ptr::null_mut();
        assert_eq!(
            call!(
                self.driver,
                "cuStreamCreate",
                (*mut *mut c_void, u32),
                &mut stream,
                1
            ),
            0
        );
        stream
    }

    pub fn destroy_stream(&self, stream: *mut c_void) {
        call!(self.driver, "cuStreamDestroy_v2", (*mut c_void), stream);
    }

    pub fn begin_capture(&self, stream: *mut c_void) -> i32 {
        call!(
            self.driver,
            "cuStreamBeginCapture_v2",
            (*mut c_void, c_int),
            stream,
            1
        )
    }

    pub fn end_capture(&self, stream: *mut c_void) -> Result<*mut c_void, i32> {
        let mut graph = ptr::null_mut();
        match call!(
            self.driver,
            "cuStreamEndCapture",
            (*mut c_void, *mut *mut c_void),
            stream,
            &mut graph
        ) {
            0 => Ok(graph),
            error => Err(error),
        }
    }

    pub fn instantiate(&self, graph: *mut c_void) -> *mut c_void {
        let mut made = ptr::null_mut();
        let result = call!(
            self.driver,
            "cuGraphInstantiateWithFlags",
            (*mut *mut c_void, *mut c_void, u64),
            &mut made,
            graph,
            0
        );
        assert_eq!(result, 0);
        made
    }

    pub fn launch_graph(&self, executable: *mut c_void, stream: *mut c_void) -> i32 {
        call!(
            self.driver,
            "cuGraphLaunch",
            (*mut c_void, *mut c_void),
            executable,
            stream
        )
    }

    pub fn destroy_graph(&self, graph: *mut c_void, executable: *mut c_void) {
        call!(self.driver, "cuGraphExecDestroy", (*mut c_void), executable);
        call!(self.driver, "cuGraphDestroy", (*mut c_void), graph);
    }

    pub fn pinned(&self, bytes: usize) -> *mut f32 {
        let mut host = ptr::null_mut();
        assert_eq!(
            call!(
                self.driver,
                "cuMemHostAlloc",
                (*mut *mut c_void, usize, u32),
                &mut host,
                bytes,
                0
            ),
            0
        );
        host.cast()
    }

    pub fn free_pinned(&self, host: *mut f32) {
        call!(self.driver, "cuMemFreeHost", (*mut c_void), host.cast());
    }

    pub fn download_later(
        &self,
        to: *mut f32,
        from: Pointer,
        bytes: usize,
        stream: *mut c_void,
    ) -> i32 {
        call!(
            self.driver,
            "cuMemcpyDtoHAsync_v2",
            (*mut c_void, Pointer, usize, *mut c_void),
            to.cast(),
            from,
            bytes,
            stream
        )
    }

    /// A copy to the device, as a stream comes to it.
    pub fn upload_later(
        &self,
        to: Pointer,
        from: *const f32,
        bytes: usize,
        stream: *mut c_void,
    ) -> i32 {
        call!(
            self.driver,
            "cuMemcpyHtoDAsync_v2",
            (Pointer, *const c_void, usize, *mut c_void),
            to,
            from.cast(),
            bytes,
            stream
        )
    }

    /// Words of one value, as a stream comes to it.
    pub fn fill_later(&self, to: Pointer, value: u32, count: usize, stream: *mut c_void) -> i32 {
        call!(
            self.driver,
            "cuMemsetD32Async",
            (Pointer, u32, usize, *mut c_void),
            to,
            value,
            count,
            stream
        )
    }

    pub fn event(&self) -> *mut c_void {
        let mut event = ptr::null_mut();
        let made = call!(
            self.driver,
            "cuEventCreate",
            (*mut *mut c_void, u32),
            &mut event,
            2
        );
        assert_eq!(made, 0);
        event
    }

    pub fn record(&self, event: *mut c_void, stream: *mut c_void) {
        let recorded = call!(
            self.driver,
            "cuEventRecord",
            (*mut c_void, *mut c_void),
            event,
            stream
        );
        assert_eq!(recorded, 0);
    }

    /// Lets a stream wait for an event.
    pub fn order(&self, stream: *mut c_void, event: *mut c_void) {
        let ordered = call!(
            self.driver,
            "cuStreamWaitEvent",
            (*mut c_void, *mut c_void, u32),
            stream,
            event,
            0
        );
        assert_eq!(ordered, 0);
    }

    pub fn synchronise_event(&self, event: *mut c_void) -> i32 {
        call!(self.driver, "cuEventSynchronize", (*mut c_void), event)
    }

    pub fn query_event(&self, event: *mut c_void) -> i32 {
        call!(self.driver, "cuEventQuery", (*mut c_void), event)
    }

    pub fn destroy_event(&self, event: *mut c_void) {
        call!(self.driver, "cuEventDestroy_v2", (*mut c_void), event);
    }

    pub fn synchronise_stream(&self, stream: *mut c_void) -> i32 {
        call!(self.driver, "cuStreamSynchronize", (*mut c_void), stream)
    }
}

impl Argument {
    fn bytes(&self) -> Vec<u8> {
        match *self {
            Argument::Pointer(p) => p.to_ne_bytes().to_vec(),
            Argument::U32(x) => x.to_ne_bytes().to_vec(),
            Argument::F32(x) => x.to_ne_bytes().to_vec(),
            Argument::View(data, columns) => {
                let view = View {
                    data,
                    segment_stride: 0,
                    row_stride: columns,
                    segment: columns,
                };
                [
                    &view.data.to_ne_bytes()[..],
                    &view.segment_stride.to_ne_bytes(),
                    &view.row_stride.to_ne_bytes(),
                    &view.segment.to_ne_bytes(),
                ]
                .concat()
            }
        }
    }
}

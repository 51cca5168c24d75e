//! One GPU: its context, its stream, and why it may not be had.

use std::collections::HashMap;
use std::ffi::CString;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::images::{COMPILED_BY, IMAGES};
use super::kernels::Kernel;
use super::memory::Allocation;
use super::queue::Launch;
use crate::backend::DeviceError;

/// Why a GPU cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// No libcuda.
    #[error("no NVIDIA driver is installed (libcuda was not found)")]
    NoDriver,
    /// The driver does not start.
    #[error("the NVIDIA driver does not start: {0}")]
    Driver(String),
    /// The driver starts, and finds nothing.
    #[error("the NVIDIA driver reports no device")]
    NoDevice,
    /// Fewer devices than asked for.
    #[error("there is no device {index}: {count} are there, numbered from 0")]
    NoSuchDevice {
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The kernels were not compiled.
    #[error("this program was built without nvcc: build it where nvcc is found (see README)")]
    NotCompiled,
    /// The driver is older than the compiler that made the images.
    #[error(
        "the kernels were compiled by CUDA {compiler} and the driver serves CUDA {driver} at most: \
         install release 580 or later, or build with a CUDA toolkit that the driver serves (12.8)"
    )]
    DriverTooOld {
        /// Major version of the compiler.
        compiler: u32,
        /// Version that the driver serves, as `12.4`.
        driver: String,
    },
    /// The driver does not read compressed images.
    #[error(
        "the kernels' images are compressed, which drivers read from CUDA 12.4 on, and this one serves CUDA \
         {driver} at most: install release 550 or later, or build with a CUDA toolkit before 12.8"
    )]
    Compressed {
        /// Version that the driver serves, as `12.2`.
        driver: String,
    },
    /// The driver would have to compile PTX that it does not know.
    #[error(
        "{name} has no machine code here, and a driver that serves CUDA {driver} at most does not compile what \
         CUDA {compiler} made: install a later release, or build with a CUDA toolkit that the driver serves"
    )]
    PtxTooNew {
        /// The device's name.
        name: String,
        /// The compiler's release, as `13.1`.
        compiler: String,
        /// Version that the driver serves, as `13.0`.
        driver: String,
    },
    /// The device lacks instructions that the kernels use.
    #[error("{name} has compute capability {found}, and the kernels need 8.0 (Ampere) or later")]
    TooOld {
        /// The device's name.
        name: String,
        /// Its capability, as `7.0`.
        found: String,
    },
    /// Another model is on it.
    #[error("another model is on the device: open the device once more for a second one")]
    Taken,
    /// The weights do not fit.
    #[error("{name} has {free} bytes free, and the weights alone need {needed}")]
    TooLittleMemory {
        /// The device's name.
        name: String,
        /// Bytes free.
        free: u64,
        /// Bytes of weights.
        needed: u64,
    },
}

/// A GPU with its kernels loaded. Memory taken from it is given back when it goes.
pub struct Device {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Compute capability: 90 is 9.0.
    pub capability: u32,
    /// Multiprocessors.
    pub processors: u32,
    /// Bytes of the second-level cache.
    pub cache_bytes: usize,
    /// Whether the driver compiled the kernels for it: there is PTX for it, and no machine code.
    pub from_ptx: bool,
    handle: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<Kernel, Function>,
    /// Where memory comes from in the order of the stream, if there is such a thing.
    pool: Option<sys::CUmemoryPool>,
    /// Whether a model is on it: launches of one may not wait while another frees memory.
    taken: AtomicBool,
    /// Memory that queued launches may still name, freed once they are launched.
    retired: Mutex<Vec<sys::CUdeviceptr>>,
}

struct Function {
    handle: sys::CUfunction,
    /// Whether more than 48 KB of dynamic shared memory has been allowed.
    roomy: AtomicBool,
}

// SAFETY: the driver's handles may be used from any thread that has made the context current, which
// `Device::bind` does before each use; what this program changes stands behind a mutex or an atomic.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// Most dynamic shared memory that a launch may take without asking for more.
const SHARED_BY_DEFAULT: u32 = 48 << 10;

/// All of it, in percent.
const ALL: i32 = 100;

impl Device {
    /// How many devices there are, without touching one.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: no driver, or one that does not start.
    pub fn count() -> Result<usize, Unavailable> {
        // SAFETY: asks the dynamic loader for a library; its initialisers are the driver's own.
        if !unsafe { sys::is_culib_present() } {
            return Err(Unavailable::NoDriver);
        }
        let count = result::init().and_then(|()| result::device::get_count());
        match count {
            Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(0),
            Err(error) => Err(Unavailable::Driver(word(error))),
        }
    }

    /// Opens a device and loads every kernel.
    ///
    /// # Errors
    ///
    /// [`Unavailable`], naming what is missing.
    pub fn open(index: usize) -> Result<Arc<Self>, Unavailable> {
        let count = Self::count()?;
        if count == 0 {
            return Err(Unavailable::NoDevice);
        }
        if index >= count {
            return Err(Unavailable::NoSuchDevice { index, count });
        }
        let driver = |error| Unavailable::Driver(word(error));
        let handle = result::device::get(index as i32).map_err(driver)?;
        let name = result::device::get_name(handle).map_err(driver)?;
        // SAFETY: the handle is the one that the driver just gave for this device.
        let attribute = |which| unsafe { result::device::get_attribute(handle, which) };
        use sys::CUdevice_attribute_enum as A;
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR).map_err(driver)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR).map_err(driver)?;
        let capability = (10 * major + minor) as u32;
        if capability < 80 {
            let found = format!("{major}.{minor}");
            return Err(Unavailable::TooOld { name, found });
        }
        let processors = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(driver)?;
        let cache = attribute(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE).map_err(driver)?;
        let pools = attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED).unwrap_or(0) > 0;

        // SAFETY: the handle is valid; the context is released once, when the device is dropped.
        let context = unsafe { result::primary_ctx::retain(handle) }.map_err(driver)?;
        let mut device = Self {
            index,
            name,
            capability,
            processors: processors as u32,
            cache_bytes: cache as usize,
            from_ptx: COMPILED_BY.is_some_and(|compiler| !compiler.has_code_for(capability)),
            handle,
            context,
            stream: result::stream::null(),
            modules: Vec::new(),
            functions: HashMap::new(),
            pool: None,
            taken: AtomicBool::new(false),
            retired: Mutex::new(Vec::new()),
        };
        device.bind().map_err(driver)?;
        let kind = result::stream::StreamKind::NonBlocking;
        device.stream = result::stream::create(kind).map_err(driver)?;
        if pools {
            device.pool = Some(device.keeping_pool().map_err(driver)?);
        }
        device.load()?;
        Ok(Arc::new(device))
    }

    /// The device's pool, which from here on keeps what it has: by itself it gives all that is unused back to the
    /// system whenever somebody waits, and the next chunk asks for it again.
    fn keeping_pool(&self) -> Result<sys::CUmemoryPool, DriverError> {
        let mut pool = std::ptr::null_mut();
        let mut most = u64::MAX;
        let threshold = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: writes a handle into the one that it is given, and reads an integer of 64 bits, which is what
        // this attribute is.
        unsafe {
            sys::cuDeviceGetMemPool(&mut pool, self.handle).result()?;
            sys::cuMemPoolSetAttribute(pool, threshold, (&raw mut most).cast()).result()?;
        }
        Ok(pool)
    }

    /// Gives back to the system what the pool keeps and nobody uses.
    pub(super) fn trim(&self) -> Result<(), DriverError> {
        match self.pool {
            // SAFETY: the pool is the device's own, which lives as long as its context.
            Some(pool) => unsafe { sys::cuMemPoolTrimTo(pool, 0) }.result(),
            None => Ok(()),
        }
    }

    fn load(&mut self) -> Result<(), Unavailable> {
        if let Some(compiler) = COMPILED_BY {
            let mut version = 0;
            // SAFETY: writes one integer into the one that it is given.
            let asked = unsafe { sys::cuDriverGetVersion(&mut version) }.result();
            if asked.is_ok() {
                let driver = (version as u32 / 1000, version as u32 % 1000 / 10);
                compiler.served_by(driver, &self.name, self.capability)?;
            }
        }
        let refused = |error| match COMPILED_BY {
            None => Unavailable::NotCompiled,
            Some(_) => {
                Unavailable::Driver(format!("it does not load the kernels: {}", word(error)))
            }
        };
        let mut modules = HashMap::new();
        for image in IMAGES {
            // SAFETY: an image is a whole fatbin, which states its own length, or a placeholder ended
            // by a NUL, which the driver refuses.
            let module = unsafe { result::module::load_data(image.data.as_ptr().cast()) };
            let module = module.map_err(refused)?;
            self.modules.push(module);
            modules.insert(image.name, module);
        }
        for kernel in Kernel::all() {
            // names are made of letters, digits and underscores
            let name = CString::new(kernel.name()).unwrap_or_default();
            // SAFETY: the module was loaded above and stays until the device is dropped.
            let handle = unsafe { result::module::get_function(modules[kernel.source()], name) };
            let function = Function {
                handle: handle.map_err(refused)?,
                roomy: AtomicBool::new(false),
            };
            self.functions.insert(kernel, function);
        }
        Ok(())
    }

    /// Takes the device for one model; whether it was free.
    pub(super) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }

    /// Leaves it to another.
    pub(super) fn leave(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Makes the context this thread's, which every call of the driver needs.
    pub(super) fn bind(&self) -> Result<Bound<'_>, DriverError> {
        // SAFETY: the context lives as long as the device.
        unsafe { result::ctx::set_current(self.context) }?;
        Ok(Bound {
            device: self,
            here: PhantomData,
        })
    }

    /// Bytes free and in all. What the pool keeps is given back first, and so is free.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] if the driver does not say.
    pub fn memory(&self) -> Result<(u64, u64), DeviceError> {
        let doing = failed("asking for free memory");
        self.bind().map_err(&doing)?;
        self.trim().map_err(&doing)?;
        let (free, total) = result::mem_get_info().map_err(&doing)?;
        Ok((free as u64, total as u64))
    }

    /// Memory of at least one byte.
    pub(super) fn allocate(self: &Arc<Self>, bytes: usize) -> Result<Allocation, DeviceError> {
        let bytes = bytes.max(16);
        let take = || {
            self.bind()?;
            // SAFETY: the stream is the device's own; the memory is written before it is read, which
            // the plan guarantees and the emulated driver checks.
            unsafe {
                if self.pool.is_some() {
                    result::malloc_async(self.stream, bytes)
                } else {
                    result::malloc_sync(bytes)
                }
            }
        };
        match take() {
            Ok(pointer) => Ok(Allocation {
                device: self.clone(),
                pointer,
                bytes,
            }),
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                Err(DeviceError::OutOfMemory {
                    needed: bytes as u64,
                })
            }
            Err(error) => Err(failed("allocating memory")(error)),
        }
    }

    /// Takes back memory that queued launches may still name.
    pub(super) fn retire(&self, pointer: sys::CUdeviceptr) {
        lock(&self.retired).push(pointer);
    }

    /// Waits for everything on the stream.
    pub(super) fn wait(&self) -> Result<(), DeviceError> {
        let doing = failed("running kernels");
        self.bind().map_err(&doing)?;
        // SAFETY: the stream is the device's own.
        unsafe { result::stream::synchronize(self.stream) }.map_err(&doing)
    }
}

/// A device whose context is this thread's: one switch serves all that follows.
#[derive(Clone, Copy)]
pub(super) struct Bound<'d> {
    device: &'d Device,
    /// A context is a thread's.
    here: PhantomData<*const ()>,
}

impl Bound<'_> {
    pub fn stream(&self) -> sys::CUstream {
        self.device.stream
    }

    /// Frees what went while launches that name it may have been waiting. Called with none waiting.
    pub fn free_retired(&self) -> Result<(), DeviceError> {
        let device = self.device;
        let retired = std::mem::take(&mut *lock(&device.retired));
        for pointer in retired {
            // SAFETY: the pointer came from `allocate` and its `Allocation`, its only owner, is gone;
            // launches that name it are on the stream already, before this.
            let freed = unsafe {
                if device.pool.is_some() {
                    result::free_async(pointer, device.stream)
                } else {
                    result::stream::synchronize(device.stream)
                        .and_then(|()| result::free_sync(pointer))
                }
            };
            freed.map_err(failed("freeing memory"))?;
        }
        Ok(())
    }

    /// Fills bytes with zeros. The caller owns an allocation that holds `to..to + bytes`.
    pub fn zero(&self, to: u64, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as the caller promises.
        let filled = unsafe { result::memset_d8_async(to, 0, bytes, self.stream()) };
        filled.map_err(failed("clearing memory"))
    }

    /// Puts launches on the stream.
    pub fn launch(&self, launches: &[Launch]) -> Result<(), DeviceError> {
        for launch in launches {
            self.launch_one(launch)
                .map_err(|error| DeviceError::Failed {
                    doing: "launching a kernel",
                    why: format!("{}: {}", launch.kernel.name(), word(error)),
                })?;
        }
        Ok(())
    }

    fn launch_one(&self, launch: &Launch) -> Result<(), DriverError> {
        let function = &self.device.functions[&launch.kernel];
        if launch.shared > SHARED_BY_DEFAULT && !function.roomy.load(Ordering::Acquire) {
            let most = launch.kernel.most_shared(self.device.capability);
            let which =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let share =
                sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
            // SAFETY: the function is one of this device's.
            unsafe {
                result::function::set_function_attribute(function.handle, which, most)?;
                // of what a multiprocessor has for both, the first-level cache gets what is left
                result::function::set_function_attribute(function.handle, share, ALL)?;
            }
            function.roomy.store(true, Ordering::Release);
        }
        let [x, y, z] = launch.grid;
        let mut arguments = [launch.argument.address().cast_mut()];
        // SAFETY: the kernel takes one argument, and this is it: `Queue::launch` compares its name with the
        // kernel's, a test that with the source, and both sides' sizes and offsets are checked when they are
        // compiled. The driver copies it before it returns. What it points to are allocations that are
        // not freed before this launch is on the stream: dropping one only retires it, and one `Cuda` at a
        // time has a device and its queue.
        unsafe {
            result::launch_kernel(
                function.handle,
                (x, y, z),
                (launch.block, 1, 1),
                launch.shared,
                self.stream(),
                &mut arguments,
            )
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // nothing can be done about a driver that fails while it is being left
        if let Ok(bound) = self.bind() {
            let _ = self.wait();
            let _ = bound.free_retired();
            let _ = self.wait();
            let _ = self.trim();
        }
        // SAFETY: every allocation holds the device, so none is left; modules, stream and context are
        // this device's own and are given back once.
        unsafe {
            for module in &self.modules {
                let _ = result::module::unload(*module);
            }
            if !self.stream.is_null() {
                let _ = result::stream::destroy(self.stream);
            }
            let _ = result::primary_ctx::release(self.handle);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // a panic elsewhere leaves these lists whole
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The driver's word for what went wrong.
fn word(error: DriverError) -> String {
    let text =
        |text: Result<&std::ffi::CStr, _>| text.ok().map(|t| t.to_string_lossy().into_owned());
    let (name, why) = (text(error.error_name()), text(error.error_string()));
    match (name, why) {
        (Some(name), Some(why)) => format!("{why} ({name})"),
        _ => format!("error {}", error.0 as u32),
    }
}

pub(super) fn failed(doing: &'static str) -> impl Fn(DriverError) -> DeviceError {
    move |error| DeviceError::Failed {
        doing,
        why: word(error),
    }
}

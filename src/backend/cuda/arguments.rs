//! What the host and the kernels tell each other, as kernels/arguments.cuh states and describes it: build.rs
//! makes this of that.

#![allow(dead_code)] // some of it is the kernels' alone

/// What kernels are launched with: one of these structures.
macro_rules! arguments {
    ($($name:ident),*) => {
        #[derive(Debug, Clone, Copy)]
        // attention's, a launch in ten, is the large one
        #[allow(clippy::large_enum_variant, clippy::enum_variant_names)]
        pub enum Arguments {
            $($name($name)),*
        }

        impl Arguments {
            /// The structure's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name)),*
                }
            }

            /// Where it lies.
            pub fn address(&self) -> *const std::ffi::c_void {
                match self {
                    $(Self::$name(argument) => std::ptr::from_ref(argument).cast()),*
                }
            }
        }

        $(impl From<$name> for Arguments {
            fn from(argument: $name) -> Self {
                Self::$name(argument)
            }
        })*
    };
}

include!(concat!(env!("OUT_DIR"), "/arguments.rs"));

/// An address on the device, or none.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Pointer(pub u64);

impl Pointer {
    /// None.
    pub const NULL: Self = Self(0);

    /// So many bytes further.
    pub fn offset(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

impl View {
    /// No matrix. Kernels divide by the columns of a stretch, and ask whether they are whole vectors:
    /// a missing cache must not forbid those.
    pub const NONE: Self = Self {
        data: Pointer::NULL,
        segment_stride: 0,
        row_stride: 0,
        segment: 16,
    };
}

impl Rows {
    /// No rows.
    pub const NONE: Self = Self {
        own: View::NONE,
        cache: View::NONE,
        refs: Pointer::NULL,
    };
}

/// A count or a place, as kernels take it.
///
/// # Panics
///
/// If it is more than kernels count to: chunks are far smaller.
pub fn number(x: usize) -> u32 {
    u32::try_from(x).unwrap_or_else(|_| panic!("{x} is more than a kernel counts to"))
}

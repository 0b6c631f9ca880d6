//! Declares structs that live in kernel maps, with a compile-time proof that they have no implicit padding.

/// Types whose every bit pattern is a value and that have no padding: they may be read from memory that the kernel writes.
///
/// # Safety
/// The type is `repr(C)`, has no padding, and holds only integers and arrays or structs of such types.
pub unsafe trait Shared: Copy + 'static {}

// SAFETY: integers have no padding and no invalid values.
unsafe impl Shared for u32 {}
// SAFETY: as above.
unsafe impl Shared for u64 {}
// SAFETY: an array has no padding between or after its elements.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares one or more `repr(C)` structs that both sides share. A struct with implicit padding does not compile.
#[macro_export]
macro_rules! shared {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ })+) => {$(
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)+ }

        const _: () = {
            const fn shared<T: $crate::shared::Shared>() -> usize { size_of::<T>() }
            assert!(
                size_of::<$name>() == 0 $(+ shared::<$type>())+,
                concat!(stringify!($name), " has implicit padding")
            );
        };

        // SAFETY: `repr(C)`, every field is `Shared`, and the assertion above proves that there is no padding.
        unsafe impl $crate::shared::Shared for $name {}
    )+};
}

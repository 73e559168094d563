//! A global allocator that counts what each thread takes and gives back. For one test binary alone.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Of one thread, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub allocations: u64,
    pub frees: u64,
}

thread_local! {
    // Constant and without a destructor: reading it allocates nothing, at any time of a thread.
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, frees: 0 }) };
}

pub fn counts() -> Counts {
    COUNTS.get()
}

pub struct Counting;

fn count(allocations: u64, frees: u64) {
    let _ = COUNTS.try_with(|counts| {
        let before = counts.get();
        counts.set(Counts {
            allocations: before.allocations + allocations,
            frees: before.frees + frees,
        });
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(1, 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(0, 1);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

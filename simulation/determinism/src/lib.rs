//! Takes randomness and time away below a program, so that a seed decides all of it.
//!
//! What the standard library, `uuid`, `rand` and the AWS clients ask the system for ends in two functions of the C
//! library: `getrandom` and `clock_gettime`. A program that links this crate has them from here. They answer as the
//! system does until a thread is given a seed. From then on that thread's random bytes follow from the seed, and its
//! clocks show the paused time of tokio.
//!
//! A thread is given one seed in its life: what it has seeded from the first one, such as the keys of its `HashMap`s,
//! stays. Linux only; on other systems worlds differ from run to run.

use std::{
    cell::Cell,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::Instant;

/// A thread's sequence of random numbers and its time.
#[derive(Clone, Copy)]
struct Thread {
    random: Option<u64>,
    /// When its world began, and what its wall clock showed.
    began: Option<(Instant, Duration)>,
    /// What the wall clock of the process that is being run is ahead of the world's, in milliseconds.
    skew_ms: i64,
}

// Cells without a destructor: the C library's functions are called while threads end, too.
thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread { random: None, began: None, skew_ms: 0 }) };
}

/// Makes what this thread asks for at random follow from `seed`, for the rest of its life.
pub fn seed(seed: u64) {
    THREAD.with(|thread| thread.set(Thread { random: Some(seed), ..thread.get() }));
    // Its own seed is made of the time and the number of the thread.
    fastrand::seed(seed);
}

/// Ends the time of a world when it is dropped.
#[derive(Debug)]
pub struct PausedTime(());

/// Makes the clocks of this thread show tokio's time, which has to be paused. The wall clock shows `now` at first.
///
/// # Panics
///
/// If it is not called within a runtime.
pub fn pause_time(now: Duration) -> PausedTime {
    assert!(tokio::runtime::Handle::try_current().is_ok(), "within a runtime");
    THREAD.with(|thread| thread.set(Thread { began: Some((Instant::now(), now)), ..thread.get() }));
    PausedTime(())
}

impl Drop for PausedTime {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.set(Thread { began: None, ..thread.get() }));
    }
}

/// Sets how far the wall clock is ahead of the world's, in milliseconds, and returns how far it was before.
pub fn set_skew(ms: i64) -> i64 {
    THREAD.with(|thread| {
        let before = thread.get();
        thread.set(Thread { skew_ms: ms, ..before });
        before.skew_ms
    })
}

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills the bytes from the thread's sequence. False where it has none.
fn fill(bytes: &mut [u8]) -> bool {
    THREAD.with(|thread| {
        let mut state = thread.get();
        let Some(random) = &mut state.random else { return false };
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&next(random).to_le_bytes()[..chunk.len()]);
        }
        thread.set(state);
        true
    })
}

/// What a clock of the thread shows. None where the system's counts.
fn reading(is_wall: bool) -> Option<Duration> {
    let Thread { began, skew_ms, .. } = THREAD.with(Cell::get);
    let (began, now) = began?;
    let elapsed = Instant::now().duration_since(began);
    if !is_wall {
        return Some(MONOTONIC_BEGAN + elapsed);
    }
    let skew = Duration::from_millis(skew_ms.unsigned_abs());
    Some(if skew_ms < 0 { (now + elapsed).saturating_sub(skew) } else { now + elapsed + skew })
}

/// What the clocks show that count from the start of the machine: enough to look back from.
const MONOTONIC_BEGAN: Duration = Duration::from_secs(1_000_000);

/// Stands in for the C library's function. Source: getrandom(2).
///
/// # Safety
///
/// `buffer` points to `length` bytes that may be written.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: libc::c_uint) -> isize {
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller's promise.
    if fill(unsafe { std::slice::from_raw_parts_mut(buffer, length) }) {
        return length as isize;
    }
    // SAFETY: the call is passed on as it came.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize }
}

/// Stands in for the C library's function. Source: clock_gettime(2).
///
/// # Safety
///
/// `time` points to a `timespec` that may be written.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let is_wall = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let is_monotonic = matches!(
        clock,
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME
    );
    if let Some(shown) = (is_wall || is_monotonic).then(|| reading(is_wall)).flatten() {
        let written = libc::timespec {
            tv_sec: libc::time_t::try_from(shown.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(shown.subsec_nanos()),
        };
        // SAFETY: the caller's promise.
        unsafe { time.write(written) };
        return 0;
    }
    // SAFETY: the call is passed on as it came.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

/// Whether the two functions are the ones that the program uses: a linker may leave them out.
///
/// # Errors
///
/// Says which of them is not.
pub fn check() -> Result<(), &'static str> {
    let drawn = |seed_of: u64| {
        std::thread::spawn(move || {
            seed(seed_of);
            use std::hash::{BuildHasher, RandomState};
            (RandomState::new().hash_one(1), uuid::Uuid::new_v4(), fastrand::u64(..))
        })
        .join()
        .ok()
    };
    if cfg!(target_os = "linux") && drawn(1) != drawn(1) {
        return Err("getrandom is the system's: the same seed gives other random numbers");
    }
    #[expect(clippy::disallowed_methods, reason = "it looks whether this is the world's time")]
    let shown = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().ok()?;
        let _guard = runtime.enter();
        let _time = pause_time(Duration::ZERO);
        std::time::SystemTime::now().duration_since(UNIX_EPOCH).ok()
    });
    match shown.join() {
        Ok(Some(shown)) if shown < Duration::from_secs(3_600) || !cfg!(target_os = "linux") => Ok(()),
        _ => Err("clock_gettime is the system's: time is not the world's"),
    }
}

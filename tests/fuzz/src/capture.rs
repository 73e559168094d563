//! Runs one input and takes its panic as a value: message and place, and nothing on standard error.

use std::cell::{Cell, RefCell};
use std::panic;
use std::sync::Once;

use crate::Target;

/// How an input broke a law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// `file:line` of the panic.
    pub place: String,
    pub message: String,
}

thread_local! {
    static IS_CAPTURING: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<Broken>> = const { RefCell::new(None) };
}

/// The hook of the process stays in force for all threads that are not inside [`attempt`].
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CAPTURING.get() {
                return others(info);
            }
            let place = info.location().map_or_else(String::new, |location| {
                format!("{}:{}", location.file(), location.line())
            });
            let message = info.payload_as_str().unwrap_or("a panic without a text").to_owned();
            LAST.replace(Some(Broken { place, message }));
        }));
    });
}

pub fn attempt(target: &Target, input: &[u8]) -> Result<(), Broken> {
    install();
    IS_CAPTURING.set(true);
    let outcome = panic::catch_unwind(|| (target.run)(input));
    IS_CAPTURING.set(false);
    outcome.map_err(|_| LAST.take().expect("the hook ran before the unwinding began"))
}

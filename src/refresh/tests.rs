mod kit;

use std::time::Duration;

use self::kit::{Fault, Hand, Stage, value};
use super::*;

#[test]
fn a_value_is_loaded_once_and_then_served() {
    let stage = Stage::new();
    assert!(stage.cache.peek(|_| ()).is_none());
    stage.fill(7, 3600);
    assert_eq!(stage.ask(), Ok(7));
    assert_eq!(stage.cache.peek(|value| *value), Some(7));
    assert_eq!(stage.source.calls(), 1);
    assert_eq!(
        stage.source.last_request(),
        LoadRequest {
            reason: Reason::FirstUse,
            attempt: 1
        }
    );
}

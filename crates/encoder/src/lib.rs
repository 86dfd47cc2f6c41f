//! Plimsoll encoder.

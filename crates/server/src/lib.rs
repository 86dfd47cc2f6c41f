//! Plimsoll server.

//! Reads the rest of a refused upload.
//!
//! A refusal is sent at once. But most clients write their whole request before they read the response. A body that is
//! dropped unread resets the stream or the connection: the client then sees the reset and loses the response. Over HTTP/2, a
//! connection with 1,024 such resets is closed by the server. So the rest is read and discarded in the background. This is
//! bounded, as an endless upload must not become a way to hold resources.

pub(crate) mod reader;
pub(crate) mod refused_upload;

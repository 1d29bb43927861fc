//! The unread rest of a refused upload.
//!
//! A refusal is answered at once. But most clients write their whole request before they read the answer, and a body
//! that is dropped unread resets the stream or the connection under them: they then see the reset and lose the answer;
//! over HTTP/2, a connection with 1,024 such resets is closed by the server. So the rest is read and thrown away in the
//! background, within bounds, as an endless upload must not become a way to hold resources.

pub(crate) mod reader;
pub(crate) mod refused_upload;

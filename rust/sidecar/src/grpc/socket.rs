//! A socket that collects what is written and sends it once a turn of the loop.
//!
//! HTTP/2 writes many small frames. Left alone, h2 flushes after each large one and whenever its
//! own buffer is full; here a flush waits until the driver of the connection has handled everything
//! there was to handle, so that a batch of answers is one system call.
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connected stream of bytes.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A handle to a [`Socket`] with its buffer. One clone belongs to h2, one to the driver of the
/// connection.
#[derive(Clone, Debug)]
pub(crate) struct BatchedSocket(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    socket: Socket,
    /// What was read while finding out what the peer speaks.
    prefix: Bytes,
    unsent: BytesMut,
    /// Whether a write had to wait for the buffer to empty.
    is_full: bool,
    bytes_read: u64,
}

/// The most that is collected before a write waits for the peer.
const UNSENT_BYTES_MAX: usize = 128 * 1024;
/// What an idle connection may keep for its next answers.
const UNSENT_BYTES_KEPT: usize = 4 * 1024;

impl BatchedSocket {
    /// Wraps `socket`, of which `prefix` was read already.
    pub(crate) fn new(socket: Socket, prefix: Bytes) -> Self {
        Self(Rc::new(RefCell::new(State {
            socket,
            prefix,
            unsent: BytesMut::new(),
            is_full: false,
            bytes_read: 0,
        })))
    }

    /// Sends what was collected. Ready with `true` if a write waits for that and can now go on.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_drain(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut state.is_full)))
    }

    /// How many bytes were ever read: a sign of life of the peer.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.0.borrow().bytes_read
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn trim(&self) {
        let unsent = &mut self.0.borrow_mut().unsent;
        if unsent.is_empty() && unsent.capacity() > UNSENT_BYTES_KEPT {
            *unsent = BytesMut::new();
        }
    }
}

impl State {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        // All views of the buffer are gone: start again at its beginning, without a copy.
        self.unsent.clear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for BatchedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        if !state.prefix.is_empty() {
            let length = state.prefix.len().min(buffer.remaining());
            buffer.put_slice(&state.prefix.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut state.socket).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        state.bytes_read += u64::try_from(read).unwrap_or(0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BatchedSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.borrow_mut();
        if state.unsent.len() >= UNSENT_BYTES_MAX
            && state.poll_drain(cx)?.is_pending()
            && state.unsent.len() >= UNSENT_BYTES_MAX
        {
            state.is_full = true;
            return Poll::Pending;
        }
        state.unsent.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Does nothing: the driver sends, with [`BatchedSocket::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.borrow_mut();
        ready!(state.poll_drain(cx))?;
        Pin::new(&mut state.socket).poll_shutdown(cx)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

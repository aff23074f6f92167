//! Connections to the voter's service: bounded in number, and ended when they say nothing.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Accepts connections, for as long as somebody takes them.
///
/// An error of the system, such as too many open files, is waited out: a loop over it would take
/// the whole processor at real-time priority.
pub(crate) fn accept(listener: TcpListener) -> ReceiverStream<io::Result<Connection>> {
    let (accepted, stream) = mpsc::channel(1);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MOST));
    tokio::spawn(async move {
        while !accepted.is_closed() {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(WAIT_AFTER_ERROR).await;
                continue;
            };
            // Where there is no room, the caller sees a connection that ends at once.
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
            let _ = stream.set_nodelay(true);
            let silence = Box::pin(sleep(SILENCE_MOST));
            let connection = Connection { stream, silence, _place: place };
            if accepted.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// One of them. Its place is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MOST);
            return read;
        }
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

/// Connections at one time. The limit on open files is often lower, and then counts.
const CONNECTIONS_MOST: usize = 4_096;

/// Whoever is there answers a ping each few seconds.
const SILENCE_MOST: Duration = Duration::from_secs(20);

const WAIT_AFTER_ERROR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;
    use tokio_stream::StreamExt;

    use super::*;

    async fn listening() -> (ReceiverStream<io::Result<Connection>>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (accept(listener), address)
    }

    #[test]
    fn who_says_nothing_is_hung_up_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut incoming, address) = listening().await;
            let mut caller = TcpStream::connect(address).await.unwrap();
            let mut connection = incoming.next().await.unwrap().unwrap();
            caller.write_all(b"x").await.unwrap();
            assert_eq!(connection.read_u8().await.unwrap(), b'x');
            // As if the time had passed.
            connection.silence.as_mut().reset(Instant::now());
            let silent = timeout(Duration::from_secs(5), connection.read_u8()).await.unwrap();
            assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(connection);
            assert_eq!(caller.read(&mut [0]).await.unwrap_or(0), 0);
        });
    }
}

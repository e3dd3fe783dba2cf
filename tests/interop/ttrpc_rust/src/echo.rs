//! `interop.Peer`. It counts the calls that hang, so that tests need not wait for a time.

use async_trait::async_trait;
use tokio::sync::watch;
use ttrpc::r#async::{ServerStream, ServerStreamReceiver, ServerStreamSender, TtrpcContext};
use ttrpc::{get_status, Code, Error, Result};

use crate::generated::peer::{Note, Pair};
use crate::generated::peer_ttrpc;

pub struct Peer {
    begun: watch::Sender<i64>,
    cancelled: watch::Sender<i64>,
}

impl Default for Peer {
    fn default() -> Self {
        Peer {
            begun: watch::Sender::new(0),
            cancelled: watch::Sender::new(0),
        }
    }
}

/// Counts when the handler's future is dropped: so ends one that is cancelled.
struct Dropped<'a>(&'a watch::Sender<i64>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

async fn reached(counter: &watch::Sender<i64>, note: Note) -> Result<Note> {
    let waited = counter
        .subscribe()
        .wait_for(|count| *count >= note.number)
        .await
        .map(|_| ());
    waited.map_err(|error| Error::Others(error.to_string()))?;
    Ok(note)
}

fn wanted(note: &Note) -> Result<()> {
    if note.code == 0 {
        return Ok(());
    }
    let code = protobuf::Enum::from_i32(note.code).unwrap_or(Code::UNKNOWN);
    Err(Error::RpcStatus(get_status(code, note.text.clone())))
}

#[async_trait]
impl peer_ttrpc::Peer for Peer {
    async fn echo(&self, context: &TtrpcContext, mut note: Note) -> Result<Note> {
        wanted(&note)?;
        if note.payload.is_empty() {
            note.payload = vec![0; note.number as usize];
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (key, values) in &context.metadata {
            pairs.extend(values.iter().map(|value| (key.clone(), value.clone())));
        }
        pairs.sort();
        note.metadata = pairs
            .into_iter()
            .map(|(key, value)| Pair {
                key,
                value,
                ..Default::default()
            })
            .collect();
        Ok(note)
    }

    async fn hang(&self, _: &TtrpcContext, _: Note) -> Result<Note> {
        let _dropped = Dropped(&self.cancelled);
        self.begun.send_modify(|count| *count += 1);
        std::future::pending().await
    }

    async fn begun(&self, _: &TtrpcContext, note: Note) -> Result<Note> {
        reached(&self.begun, note).await
    }

    async fn cancelled(&self, _: &TtrpcContext, note: Note) -> Result<Note> {
        reached(&self.cancelled, note).await
    }

    async fn collect(
        &self,
        _: &TtrpcContext,
        mut stream: ServerStreamReceiver<Note>,
    ) -> Result<Note> {
        let mut texts = Vec::new();
        while let Some(note) = stream.recv().await? {
            wanted(&note)?;
            texts.push(note.text);
        }
        let (number, text) = (texts.len() as i64, texts.join(","));
        Ok(Note {
            number,
            text,
            ..Default::default()
        })
    }

    async fn expand(
        &self,
        _: &TtrpcContext,
        note: Note,
        stream: ServerStreamSender<Note>,
    ) -> Result<()> {
        for number in 0..note.number {
            let payload = note.payload.clone();
            stream
                .send(&Note {
                    number,
                    payload,
                    ..Default::default()
                })
                .await?;
        }
        wanted(&note)
    }

    async fn chat(&self, _: &TtrpcContext, mut stream: ServerStream<Note, Note>) -> Result<()> {
        let mut number = 0;
        while let Some(note) = stream.recv().await? {
            wanted(&note)?;
            stream.send(&note).await?;
            number += 1;
        }
        stream
            .send(&Note {
                text: "end".to_string(),
                number,
                ..Default::default()
            })
            .await
    }
}

//! A ttRPC peer made with the crate `ttrpc`, for the tests beside this folder.
//!
//! ```text
//! client SOCKET calls|at-once|collect|expand|chat   a Script on standard input, Outcomes on output
//! server SOCKET                                     "ready" on output, until input ends
//! ```

mod client;
mod echo;
#[allow(clippy::all, dead_code)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}
mod services;

use std::io::{Read, Write};
use std::sync::Arc;

use generated::{
    api_ttrpc, attestation_agent_ttrpc, getresource_ttrpc, keyprovider_ttrpc, peer_ttrpc,
};
use protobuf::Message;

type Failure = Box<dyn std::error::Error>;

// One thread: release 0.9.0 hands each received frame to a task of its own, and tasks on several
// threads overtake each other, so that messages of a stream get lost behind its end.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", path] => serve(path).await,
        ["client", path, scenario] => play(path, scenario).await,
        _ => Err("client SOCKET SCENARIO or server SOCKET".into()),
    }
}

async fn play(path: &str, scenario: &str) -> Result<(), Failure> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let script = generated::peer::Script::parse_from_bytes(&input)?;
    let client = ttrpc::r#async::Client::connect(&format!("unix://{path}")).await?;
    let outcomes = client::perform(client, scenario, script).await?;
    std::io::stdout().write_all(&outcomes.write_to_bytes()?)?;
    Ok(())
}

async fn serve(path: &str) -> Result<(), Failure> {
    let hub = Arc::new(services::Hub);
    let mut server = ttrpc::r#async::Server::new()
        .bind(&format!("unix://{path}"))?
        .register_service(peer_ttrpc::create_peer(Arc::new(echo::Peer::default())))
        .register_service(attestation_agent_ttrpc::create_attestation_agent_service(
            Arc::new(services::Agent),
        ))
        .register_service(api_ttrpc::create_get_resource_service(hub.clone()))
        .register_service(api_ttrpc::create_sealed_secret_service(hub.clone()))
        .register_service(api_ttrpc::create_secure_mount_service(hub.clone()))
        .register_service(api_ttrpc::create_image_pull_service(hub))
        .register_service(keyprovider_ttrpc::create_key_provider_service(Arc::new(
            services::Keys,
        )))
        .register_service(getresource_ttrpc::create_get_resource_service(Arc::new(
            services::Older,
        )));
    server.start().await?;
    println!("ready");
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    server.shutdown().await?;
    Ok(())
}

//! Performs a script against a server and writes down what came of it.

use std::collections::HashMap;
use std::time::Duration;

use protobuf::Message;
use ttrpc::context::{self, Context};
use ttrpc::r#async::Client;

use crate::generated::peer::{Call, Note, Outcome, Outcomes, Script};
use crate::generated::peer_ttrpc::PeerClient;
use crate::generated::{
    api, api_ttrpc, attestation_agent, attestation_agent_ttrpc, getresource, getresource_ttrpc,
    keyprovider, keyprovider_ttrpc, peer, peer_ttrpc,
};
use crate::Failure;

/// How long a stream of the tests may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn perform(client: Client, scenario: &str, script: Script) -> Result<Outcomes, Failure> {
    let mut outcomes = Outcomes::new();
    match scenario {
        "calls" => {
            for call in script.calls {
                outcomes.outcomes.push(unary(client.clone(), call).await);
            }
        }
        "at-once" => {
            let tasks: Vec<_> = script
                .calls
                .into_iter()
                .map(|call| tokio::spawn(unary(client.clone(), call)))
                .collect();
            for task in tasks {
                outcomes.outcomes.push(task.await?);
            }
        }
        _ => {
            let mut replies = Vec::new();
            let stub = PeerClient::new(client);
            let result = stream(stub, scenario, &script.notes, &mut replies).await;
            let mut outcome = outcome(result.map(|()| Vec::new()));
            outcome.replies = replies
                .iter()
                .map(Message::write_to_bytes)
                .collect::<Result<_, _>>()?;
            outcomes.outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

fn outcome(result: ttrpc::Result<Vec<u8>>) -> Outcome {
    let mut outcome = Outcome::new();
    match result {
        Ok(reply) => outcome.replies.push(reply),
        Err(ttrpc::Error::RpcStatus(status)) => {
            outcome.code = status.code.value();
            outcome.text = status.message;
        }
        Err(error) => {
            outcome.code = -1;
            outcome.text = error.to_string();
        }
    }
    outcome
}

fn context(call: &Call) -> Context {
    let mut context = context::with_metadata(HashMap::new());
    context.timeout_nano = call.timeout_ms * 1_000_000;
    for pair in &call.metadata {
        context.add(pair.key.clone(), pair.value.clone());
    }
    context
}

fn broken(error: protobuf::Error) -> ttrpc::Error {
    ttrpc::Error::Others(error.to_string())
}

/// Call a method of a generated client with a message of its generated type.
macro_rules! typed {
    ($stub:expr, $method:ident, $request:ty, $call:expr) => {{
        let request = <$request>::parse_from_bytes(&$call.request).map_err(broken)?;
        let reply = $stub.$method(context($call), &request).await?;
        reply.write_to_bytes().map_err(broken)
    }};
}

async fn unary(client: Client, call: Call) -> Outcome {
    outcome(known(client, &call).await)
}

async fn known(client: Client, call: &Call) -> ttrpc::Result<Vec<u8>> {
    match call.service.as_str() {
        "attestation_agent.AttestationAgentService" => agent(client, call).await,
        "interop.Peer" => {
            let stub = peer_ttrpc::PeerClient::new(client.clone());
            match call.method.as_str() {
                "Echo" => typed!(stub, echo, peer::Note, call),
                "Hang" => typed!(stub, hang, peer::Note, call),
                "Begun" => typed!(stub, begun, peer::Note, call),
                "Cancelled" => typed!(stub, cancelled, peer::Note, call),
                _ => raw(client, call).await,
            }
        }
        _ => hub(client, call).await,
    }
}

async fn agent(client: Client, call: &Call) -> ttrpc::Result<Vec<u8>> {
    use attestation_agent as aa;
    let stub = attestation_agent_ttrpc::AttestationAgentServiceClient::new(client.clone());
    match call.method.as_str() {
        "GetEvidence" => typed!(stub, get_evidence, aa::GetEvidenceRequest, call),
        "GetAdditionalEvidence" => {
            typed!(
                stub,
                get_additional_evidence,
                aa::GetAdditionalEvidenceRequest,
                call
            )
        }
        "GetToken" => typed!(stub, get_token, aa::GetTokenRequest, call),
        "ExtendRuntimeMeasurement" => {
            typed!(
                stub,
                extend_runtime_measurement,
                aa::ExtendRuntimeMeasurementRequest,
                call
            )
        }
        "BindInitData" => typed!(stub, bind_init_data, aa::BindInitDataRequest, call),
        "GetTeeType" => typed!(stub, get_tee_type, aa::GetTeeTypeRequest, call),
        "GetAdditionalTees" => typed!(
            stub,
            get_additional_tees,
            aa::GetAdditionalTeesRequest,
            call
        ),
        _ => raw(client, call).await,
    }
}

async fn hub(client: Client, call: &Call) -> ttrpc::Result<Vec<u8>> {
    use keyprovider::KeyProviderKeyWrapProtocolInput as Packet;
    match (call.service.as_str(), call.method.as_str()) {
        ("api.GetResourceService", "GetResource") => {
            let stub = api_ttrpc::GetResourceServiceClient::new(client);
            typed!(stub, get_resource, api::GetResourceRequest, call)
        }
        ("api.SealedSecretService", "UnsealSecret") => {
            let stub = api_ttrpc::SealedSecretServiceClient::new(client);
            typed!(stub, unseal_secret, api::UnsealSecretInput, call)
        }
        ("api.SecureMountService", "SecureMount") => {
            let stub = api_ttrpc::SecureMountServiceClient::new(client);
            typed!(stub, secure_mount, api::SecureMountRequest, call)
        }
        ("api.ImagePullService", "PullImage") => {
            let stub = api_ttrpc::ImagePullServiceClient::new(client);
            typed!(stub, pull_image, api::ImagePullRequest, call)
        }
        ("keyprovider.KeyProviderService", "UnWrapKey") => {
            let stub = keyprovider_ttrpc::KeyProviderServiceClient::new(client);
            typed!(stub, un_wrap_key, Packet, call)
        }
        ("keyprovider.KeyProviderService", "WrapKey") => {
            let stub = keyprovider_ttrpc::KeyProviderServiceClient::new(client);
            typed!(stub, wrap_key, Packet, call)
        }
        ("getresource.GetResourceService", "GetResource") => {
            let stub = getresource_ttrpc::GetResourceServiceClient::new(client);
            typed!(stub, get_resource, getresource::GetResourceRequest, call)
        }
        _ => raw(client, call).await,
    }
}

/// A call that no generated client makes.
async fn raw(client: Client, call: &Call) -> ttrpc::Result<Vec<u8>> {
    let request = ttrpc::Request {
        service: call.service.clone(),
        method: call.method.clone(),
        payload: call.request.clone(),
        ..Default::default()
    };
    Ok(client.request(request).await?.payload)
}

async fn stream(
    stub: PeerClient,
    scenario: &str,
    notes: &[Note],
    replies: &mut Vec<Note>,
) -> ttrpc::Result<()> {
    let context = context::with_duration(PATIENCE);
    match scenario {
        "collect" => {
            let mut call = stub.collect(context).await?;
            for note in notes {
                if call.send(note).await.is_err() {
                    break; // what the server says about it comes as the reply
                }
            }
            replies.push(call.close_and_recv().await?);
        }
        "expand" => {
            let mut call = stub.expand(context, &notes[0]).await?;
            while let Some(reply) = call.recv().await? {
                replies.push(reply);
            }
        }
        "chat" => {
            let mut call = stub.chat(context).await?;
            for note in notes {
                call.send(note).await?;
                replies.push(call.recv().await?);
            }
            call.close_send().await?;
            loop {
                match call.recv().await {
                    Ok(reply) => replies.push(reply),
                    Err(ttrpc::Error::Eof) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        _ => {
            return Err(ttrpc::Error::Others(format!(
                "scenario {scenario} is unknown"
            )))
        }
    }
    Ok(())
}

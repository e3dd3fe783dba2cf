//! The services of a guest with answers that show what arrived. What is missing here gets the
//! refusal that the code generator writes.

use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;
use ttrpc::{get_status, Code, Error, Result};

use crate::generated::{
    api, api_ttrpc, attestation_agent as aa, attestation_agent_ttrpc, getresource,
    getresource_ttrpc, keyprovider as kp, keyprovider_ttrpc,
};

pub struct Agent;
pub struct Hub;
pub struct Keys;
pub struct Older;

fn shown(prefix: &str, data: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), data].concat()
}

#[async_trait]
impl attestation_agent_ttrpc::AttestationAgentService for Agent {
    async fn get_evidence(
        &self,
        _: &TtrpcContext,
        request: aa::GetEvidenceRequest,
    ) -> Result<aa::GetEvidenceResponse> {
        let mut reply = aa::GetEvidenceResponse::new();
        reply.Evidence = shown("evidence:", &request.RuntimeData);
        Ok(reply)
    }

    async fn get_additional_evidence(
        &self,
        _: &TtrpcContext,
        request: aa::GetAdditionalEvidenceRequest,
    ) -> Result<aa::GetEvidenceResponse> {
        let mut reply = aa::GetEvidenceResponse::new();
        reply.Evidence = shown("more:", &request.RuntimeData);
        Ok(reply)
    }

    async fn get_token(
        &self,
        _: &TtrpcContext,
        request: aa::GetTokenRequest,
    ) -> Result<aa::GetTokenResponse> {
        if request.TokenType != "kbs" {
            let text = format!("no token {}", request.TokenType);
            return Err(Error::RpcStatus(get_status(Code::INVALID_ARGUMENT, text)));
        }
        let mut reply = aa::GetTokenResponse::new();
        reply.Token = b"token:kbs".to_vec();
        Ok(reply)
    }

    async fn extend_runtime_measurement(
        &self,
        _: &TtrpcContext,
        request: aa::ExtendRuntimeMeasurementRequest,
    ) -> Result<aa::ExtendRuntimeMeasurementResponse> {
        let mut reply = aa::ExtendRuntimeMeasurementResponse::new();
        if request.RegisterIndex.is_none() {
            reply.Result = aa::RuntimeMeasurementResult::NOT_ENABLED.into();
        }
        Ok(reply)
    }

    async fn get_tee_type(
        &self,
        _: &TtrpcContext,
        _: aa::GetTeeTypeRequest,
    ) -> Result<aa::GetTeeTypeResponse> {
        let mut reply = aa::GetTeeTypeResponse::new();
        reply.tee = "tdx".to_string();
        Ok(reply)
    }

    async fn get_additional_tees(
        &self,
        _: &TtrpcContext,
        _: aa::GetAdditionalTeesRequest,
    ) -> Result<aa::GetAdditionalTeesResponse> {
        let mut reply = aa::GetAdditionalTeesResponse::new();
        reply.additional_tees = vec!["one".to_string(), "two".to_string()];
        Ok(reply)
    }
}

#[async_trait]
impl api_ttrpc::GetResourceService for Hub {
    async fn get_resource(
        &self,
        _: &TtrpcContext,
        request: api::GetResourceRequest,
    ) -> Result<api::GetResourceResponse> {
        let mut reply = api::GetResourceResponse::new();
        reply.Resource = request.ResourcePath.into_bytes();
        Ok(reply)
    }
}

#[async_trait]
impl api_ttrpc::SealedSecretService for Hub {
    async fn unseal_secret(
        &self,
        _: &TtrpcContext,
        request: api::UnsealSecretInput,
    ) -> Result<api::UnsealSecretOutput> {
        let mut reply = api::UnsealSecretOutput::new();
        reply.plaintext = shown("unsealed:", &request.secret);
        Ok(reply)
    }
}

#[async_trait]
impl api_ttrpc::SecureMountService for Hub {
    async fn secure_mount(
        &self,
        _: &TtrpcContext,
        request: api::SecureMountRequest,
    ) -> Result<api::SecureMountResponse> {
        let mut options: Vec<_> = request
            .options
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        options.sort();
        let mut reply = api::SecureMountResponse::new();
        reply.mount_path = [
            request.volume_type,
            options.join(","),
            request.flags.join(","),
            request.mount_point,
        ]
        .join("|");
        Ok(reply)
    }
}

#[async_trait]
impl api_ttrpc::ImagePullService for Hub {
    async fn pull_image(
        &self,
        _: &TtrpcContext,
        request: api::ImagePullRequest,
    ) -> Result<api::ImagePullResponse> {
        let mut reply = api::ImagePullResponse::new();
        reply.manifest_digest = format!("{}|{}", request.image_url, request.bundle_path);
        Ok(reply)
    }
}

#[async_trait]
impl keyprovider_ttrpc::KeyProviderService for Keys {
    async fn un_wrap_key(
        &self,
        _: &TtrpcContext,
        request: kp::KeyProviderKeyWrapProtocolInput,
    ) -> Result<kp::KeyProviderKeyWrapProtocolOutput> {
        let mut reply = kp::KeyProviderKeyWrapProtocolOutput::new();
        reply.KeyProviderKeyWrapProtocolOutput =
            shown("key:", &request.KeyProviderKeyWrapProtocolInput);
        Ok(reply)
    }
}

#[async_trait]
impl getresource_ttrpc::GetResourceService for Older {
    async fn get_resource(
        &self,
        _: &TtrpcContext,
        request: getresource::GetResourceRequest,
    ) -> Result<getresource::GetResourceResponse> {
        let mut reply = getresource::GetResourceResponse::new();
        let fields = [request.ResourcePath, request.KbcName, request.KbsUri];
        reply.Resource = fields.join("|").into_bytes();
        Ok(reply)
    }
}

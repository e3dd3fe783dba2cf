package main

import (
	"bytes"
	"context"
	"sort"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	api "confidentialguest/ttrpcpeer/gen/api"
	agent "confidentialguest/ttrpcpeer/gen/attestation_agent"
	getresource "confidentialguest/ttrpcpeer/gen/getresource"
	keyprovider "confidentialguest/ttrpcpeer/gen/keyprovider"
)

// The services of a guest with answers that show what arrived.
type (
	agentService struct{}
	hubService   struct{}
	keyService   struct{}
	olderService struct{}
)

func (agentService) GetEvidence(
	_ context.Context, request *agent.GetEvidenceRequest,
) (*agent.GetEvidenceResponse, error) {
	return &agent.GetEvidenceResponse{Evidence: shown("evidence:", request.RuntimeData)}, nil
}

func (agentService) GetAdditionalEvidence(
	_ context.Context, request *agent.GetAdditionalEvidenceRequest,
) (*agent.GetEvidenceResponse, error) {
	return &agent.GetEvidenceResponse{Evidence: shown("more:", request.RuntimeData)}, nil
}

func (agentService) GetToken(
	_ context.Context, request *agent.GetTokenRequest,
) (*agent.GetTokenResponse, error) {
	if request.TokenType != "kbs" {
		return nil, status.Errorf(codes.InvalidArgument, "no token %s", request.TokenType)
	}
	return &agent.GetTokenResponse{Token: []byte("token:kbs")}, nil
}

func (agentService) ExtendRuntimeMeasurement(
	_ context.Context, request *agent.ExtendRuntimeMeasurementRequest,
) (*agent.ExtendRuntimeMeasurementResponse, error) {
	result := agent.RuntimeMeasurementResult_OK
	if request.RegisterIndex == nil {
		result = agent.RuntimeMeasurementResult_NOT_ENABLED
	}
	return &agent.ExtendRuntimeMeasurementResponse{Result: result}, nil
}

func (agentService) BindInitData(
	context.Context, *agent.BindInitDataRequest,
) (*agent.BindInitDataResponse, error) {
	return nil, notSupported("/attestation_agent.AttestationAgentService/BindInitData")
}

func (agentService) GetTeeType(
	context.Context, *agent.GetTeeTypeRequest,
) (*agent.GetTeeTypeResponse, error) {
	return &agent.GetTeeTypeResponse{Tee: "tdx"}, nil
}

func (agentService) GetAdditionalTees(
	context.Context, *agent.GetAdditionalTeesRequest,
) (*agent.GetAdditionalTeesResponse, error) {
	return &agent.GetAdditionalTeesResponse{AdditionalTees: []string{"one", "two"}}, nil
}

func (hubService) GetResource(
	_ context.Context, request *api.GetResourceRequest,
) (*api.GetResourceResponse, error) {
	if request.ResourcePath == "kbs:///default/key/1" {
		return &api.GetResourceResponse{Resource: bytes.Repeat([]byte("x"), 1024)}, nil
	}
	return &api.GetResourceResponse{Resource: []byte(request.ResourcePath)}, nil
}

func (hubService) UnsealSecret(
	_ context.Context, request *api.UnsealSecretInput,
) (*api.UnsealSecretOutput, error) {
	return &api.UnsealSecretOutput{Plaintext: shown("unsealed:", request.Secret)}, nil
}

func (hubService) SecureMount(
	_ context.Context, request *api.SecureMountRequest,
) (*api.SecureMountResponse, error) {
	var options []string
	for key, value := range request.Options {
		options = append(options, key+"="+value)
	}
	sort.Strings(options)
	return &api.SecureMountResponse{MountPath: strings.Join([]string{
		request.VolumeType, strings.Join(options, ","), strings.Join(request.Flags, ","),
		request.MountPoint,
	}, "|")}, nil
}

func (hubService) PullImage(
	_ context.Context, request *api.ImagePullRequest,
) (*api.ImagePullResponse, error) {
	return &api.ImagePullResponse{ManifestDigest: request.ImageUrl + "|" + request.BundlePath}, nil
}

func (keyService) UnWrapKey(
	_ context.Context, request *keyprovider.KeyProviderKeyWrapProtocolInput,
) (*keyprovider.KeyProviderKeyWrapProtocolOutput, error) {
	return &keyprovider.KeyProviderKeyWrapProtocolOutput{
		KeyProviderKeyWrapProtocolOutput: shown("key:", request.KeyProviderKeyWrapProtocolInput),
	}, nil
}

func (keyService) WrapKey(
	context.Context, *keyprovider.KeyProviderKeyWrapProtocolInput,
) (*keyprovider.KeyProviderKeyWrapProtocolOutput, error) {
	return nil, notSupported("/keyprovider.KeyProviderService/WrapKey")
}

func (olderService) GetResource(
	_ context.Context, request *getresource.GetResourceRequest,
) (*getresource.GetResourceResponse, error) {
	fields := []string{request.ResourcePath, request.KbcName, request.KbsUri}
	return &getresource.GetResourceResponse{Resource: []byte(strings.Join(fields, "|"))}, nil
}

func shown(prefix string, data []byte) []byte {
	return append([]byte(prefix), data...)
}

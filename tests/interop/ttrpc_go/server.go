package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	api "confidentialguest/ttrpcpeer/gen/api"
	agent "confidentialguest/ttrpcpeer/gen/attestation_agent"
	getresource "confidentialguest/ttrpcpeer/gen/getresource"
	keyprovider "confidentialguest/ttrpcpeer/gen/keyprovider"
	peer "confidentialguest/ttrpcpeer/gen/peer"
)

// serve answers until standard input ends.
func serve(path string) error {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server, err := ttrpc.NewServer()
	if err != nil {
		return err
	}
	peer.RegisterPeerService(server, newPeerService())
	agent.RegisterAttestationAgentServiceService(server, agentService{})
	api.RegisterGetResourceServiceService(server, hubService{})
	api.RegisterSealedSecretServiceService(server, hubService{})
	api.RegisterSecureMountServiceService(server, hubService{})
	api.RegisterImagePullServiceService(server, hubService{})
	keyprovider.RegisterKeyProviderServiceService(server, keyService{})
	getresource.RegisterGetResourceServiceService(server, olderService{})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(context.Background(), listener) }()
	fmt.Println("ready")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case err := <-failed:
		return err
	case <-ended:
		return server.Close()
	}
}

func notSupported(path string) error {
	return status.Errorf(codes.NotFound, "%s is not supported", path)
}

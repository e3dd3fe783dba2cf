package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	peer "confidentialguest/ttrpcpeer/gen/peer"
)

// How long a stream of the tests may take.
const patience = 30 * time.Second

func perform(client *ttrpc.Client, scenario string, script *peer.Script) ([]*peer.Outcome, error) {
	outcomes := make([]*peer.Outcome, len(script.Calls))
	switch scenario {
	case "calls":
		for i, call := range script.Calls {
			outcomes[i] = unary(client, call)
		}
		return outcomes, nil
	case "at-once":
		var all sync.WaitGroup
		for i, call := range script.Calls {
			all.Add(1)
			go func(i int, call *peer.Call) {
				defer all.Done()
				outcomes[i] = unary(client, call)
			}(i, call)
		}
		all.Wait()
		return outcomes, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stub := peer.NewPeerClient(client)
	replies, err := stream(ctx, stub, scenario, script.Notes)
	outcome := failure(err)
	for _, reply := range replies {
		encoded, err := proto.Marshal(reply)
		if err != nil {
			return nil, err
		}
		outcome.Replies = append(outcome.Replies, encoded)
	}
	return []*peer.Outcome{outcome}, nil
}

func failure(err error) *peer.Outcome {
	if err == nil {
		return &peer.Outcome{}
	}
	if told, ok := status.FromError(err); ok {
		return &peer.Outcome{Code: int32(told.Code()), Text: told.Message()}
	}
	return &peer.Outcome{Code: -1, Text: err.Error()}
}

// messages gives the generated types of a method, or empty ones for a method nobody knows.
func messages(service, method string) (proto.Message, proto.Message, error) {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(
		protoreflect.FullName(service + "." + method))
	if err != nil {
		return &emptypb.Empty{}, &emptypb.Empty{}, nil
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, nil, fmt.Errorf("%s.%s is no method", service, method)
	}
	in, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.Input().FullName())
	if err != nil {
		return nil, nil, err
	}
	out, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.Output().FullName())
	if err != nil {
		return nil, nil, err
	}
	return in.New().Interface(), out.New().Interface(), nil
}

func unary(client *ttrpc.Client, call *peer.Call) *peer.Outcome {
	request, reply, err := messages(call.Service, call.Method)
	if err != nil {
		return failure(err)
	}
	if err := proto.Unmarshal(call.Request, request); err != nil {
		return failure(err)
	}
	ctx := context.Background()
	if call.TimeoutMs != 0 {
		limited, cancel := context.WithTimeout(ctx, time.Duration(call.TimeoutMs)*time.Millisecond)
		defer cancel()
		ctx = limited
	}
	if len(call.Metadata) != 0 {
		metadata := ttrpc.MD{}
		for _, pair := range call.Metadata {
			metadata.Append(pair.Key, pair.Value)
		}
		ctx = ttrpc.WithMetadata(ctx, metadata)
	}
	if err := client.Call(ctx, call.Service, call.Method, request, reply); err != nil {
		return failure(err)
	}
	encoded, err := proto.Marshal(reply)
	if err != nil {
		return failure(err)
	}
	return &peer.Outcome{Replies: [][]byte{encoded}}
}

func stream(
	ctx context.Context, stub peer.PeerClient, scenario string, notes []*peer.Note,
) ([]*peer.Note, error) {
	switch scenario {
	case "collect":
		call, err := stub.Collect(ctx)
		if err != nil {
			return nil, err
		}
		for _, note := range notes {
			if err := call.Send(note); err != nil {
				break // what the server says about it comes as the reply
			}
		}
		reply, err := call.CloseAndRecv()
		if err != nil {
			return nil, err
		}
		return []*peer.Note{reply}, nil
	case "expand":
		call, err := stub.Expand(ctx, notes[0])
		if err != nil {
			return nil, err
		}
		return rest(nil, call.Recv)
	case "chat":
		call, err := stub.Chat(ctx)
		if err != nil {
			return nil, err
		}
		var replies []*peer.Note
		for _, note := range notes {
			if err := call.Send(note); err != nil {
				return replies, err
			}
			reply, err := call.Recv()
			if err != nil {
				return replies, err
			}
			replies = append(replies, reply)
		}
		if err := call.CloseSend(); err != nil {
			return replies, err
		}
		return rest(replies, call.Recv)
	}
	return nil, fmt.Errorf("scenario %q is unknown", scenario)
}

func rest(replies []*peer.Note, receive func() (*peer.Note, error)) ([]*peer.Note, error) {
	for {
		reply, err := receive()
		if errors.Is(err, io.EOF) {
			return replies, nil
		}
		if err != nil {
			return replies, err
		}
		replies = append(replies, reply)
	}
}

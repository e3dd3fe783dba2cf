package main

import (
	"context"
	"errors"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	peer "confidentialguest/ttrpcpeer/gen/peer"
)

// peerService counts the calls that hang, so that tests need not wait for a time.
type peerService struct {
	lock      sync.Mutex
	changed   *sync.Cond
	begun     int64
	cancelled int64
}

func newPeerService() *peerService {
	service := &peerService{}
	service.changed = sync.NewCond(&service.lock)
	return service
}

func wanted(note *peer.Note) error {
	if note.Code == 0 {
		return nil
	}
	return status.Error(codes.Code(note.Code), note.Text)
}

func (*peerService) Echo(ctx context.Context, note *peer.Note) (*peer.Note, error) {
	if err := wanted(note); err != nil {
		return nil, err
	}
	if len(note.Payload) == 0 {
		note.Payload = make([]byte, note.Number)
	}
	metadata, _ := ttrpc.GetMetadata(ctx)
	note.Metadata = nil
	for key, values := range metadata {
		for _, value := range values {
			note.Metadata = append(note.Metadata, &peer.Pair{Key: key, Value: value})
		}
	}
	sort.Slice(note.Metadata, func(i, j int) bool {
		a, b := note.Metadata[i], note.Metadata[j]
		return a.Key+"\x00"+a.Value < b.Key+"\x00"+b.Value
	})
	return note, nil
}

func (s *peerService) count(counter *int64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	*counter++
	s.changed.Broadcast()
}

func (s *peerService) reached(counter *int64, number int64) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for *counter < number {
		s.changed.Wait()
	}
}

func (s *peerService) Hang(ctx context.Context, _ *peer.Note) (*peer.Note, error) {
	s.count(&s.begun)
	<-ctx.Done()
	s.count(&s.cancelled)
	return nil, ctx.Err()
}

func (s *peerService) Begun(_ context.Context, note *peer.Note) (*peer.Note, error) {
	s.reached(&s.begun, note.Number)
	return note, nil
}

func (s *peerService) Cancelled(_ context.Context, note *peer.Note) (*peer.Note, error) {
	s.reached(&s.cancelled, note.Number)
	return note, nil
}

func (*peerService) Collect(
	_ context.Context, stream peer.Peer_CollectServer,
) (*peer.Note, error) {
	var texts []string
	for {
		note, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return &peer.Note{Number: int64(len(texts)), Text: strings.Join(texts, ",")}, nil
		}
		if err != nil {
			return nil, err
		}
		if err := wanted(note); err != nil {
			return nil, err
		}
		texts = append(texts, note.Text)
	}
}

func (*peerService) Expand(
	_ context.Context, note *peer.Note, stream peer.Peer_ExpandServer,
) error {
	for number := int64(0); number < note.Number; number++ {
		if err := stream.Send(&peer.Note{Number: number, Payload: note.Payload}); err != nil {
			return err
		}
	}
	return wanted(note)
}

func (*peerService) Chat(_ context.Context, stream peer.Peer_ChatServer) error {
	for count := int64(0); ; count++ {
		note, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.Send(&peer.Note{Text: "end", Number: count})
		}
		if err != nil {
			return err
		}
		if err := wanted(note); err != nil {
			return err
		}
		if err := stream.Send(note); err != nil {
			return err
		}
	}
}

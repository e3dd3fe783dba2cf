// A ttRPC peer made with github.com/containerd/ttrpc, for the tests beside this folder.
//
//	client SOCKET calls|at-once|collect|expand|chat   a Script on standard input, Outcomes on output
//	server SOCKET                                     "ready" on output, until input ends
//	bench SOCKET IN_FLIGHT COUNT                      seconds, then each call's time in microseconds
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"

	peer "confidentialguest/ttrpcpeer/gen/peer"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "server" {
		return serve(args[1])
	}
	if len(args) < 3 {
		return fmt.Errorf("client SOCKET SCENARIO, server SOCKET or bench SOCKET IN_FLIGHT COUNT")
	}
	conn, err := net.Dial("unix", args[1])
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(conn)
	defer client.Close()
	if args[0] == "bench" {
		inFlight, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(args[3])
		if err != nil {
			return err
		}
		return bench(client, inFlight, count)
	}
	return play(client, args[2])
}

func play(client *ttrpc.Client, scenario string) error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var script peer.Script
	if err := proto.Unmarshal(input, &script); err != nil {
		return err
	}
	outcomes, err := perform(client, scenario, &script)
	if err != nil {
		return err
	}
	output, err := proto.Marshal(&peer.Outcomes{Outcomes: outcomes})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(output)
	return err
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/ttrpc"

	api "confidentialguest/ttrpcpeer/gen/api"
)

// bench calls GetResource "count" times, "inFlight" at a time, over one connection.
func bench(client *ttrpc.Client, inFlight, count int) error {
	stub := api.NewGetResourceServiceClient(client)
	times := make([]time.Duration, count)
	failures := make([]error, inFlight)
	var next int64 = -1
	var all sync.WaitGroup
	begin := time.Now()
	for worker := 0; worker < inFlight; worker++ {
		all.Add(1)
		go func(worker int) {
			defer all.Done()
			for {
				i := atomic.AddInt64(&next, 1)
				if i >= int64(count) {
					return
				}
				start := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				request := &api.GetResourceRequest{ResourcePath: "kbs:///default/key/1"}
				_, err := stub.GetResource(ctx, request)
				cancel()
				if err != nil {
					failures[worker] = err
					return
				}
				times[i] = time.Since(start)
			}
		}(worker)
	}
	all.Wait()
	elapsed := time.Since(begin)
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintf(out, "%.6f\n", elapsed.Seconds())
	for _, one := range times {
		fmt.Fprintf(out, "%.1f\n", float64(one.Nanoseconds())/1000)
	}
	return nil
}

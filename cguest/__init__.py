"""The operator's command line. Talks to the daemons' sockets; holds no rules of its own."""

// Command servers is a Kubernetes control plane for tests in one binary:
// it runs as the program whose name it is called by.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	kubeapiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(kubeapiserver.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "servers: no program is named %q\n", name)
		os.Exit(2)
	}
}

package main

import (
	"os"

	"kubevirt.io/client-go/log"

	"kubevirt.io/kubevirt/pkg/service"
	virtapi "kubevirt.io/kubevirt/pkg/virt-api"
	"kubevirt.io/kubevirt/pkg/virt-controller/watch"
)

// virtController runs upstream's main function; it reads its flags from os.Args and never returns.
func virtController(args []string) error {
	os.Args = append(os.Args[:1], args...)
	watch.Execute()
	return nil
}

// virtAPI does what upstream's cmd/virt-api does.
func virtAPI(args []string) error {
	os.Args = append(os.Args[:1], args...)
	log.InitializeLogging("virt-api")
	app := virtapi.NewVirtApi()
	service.Setup(app)
	app.Execute()
	return nil
}

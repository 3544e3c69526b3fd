package main

import (
	"crypto/sha256"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hubgate/hubgate/brokerauth"
	"github.com/hubgate/hubgate/config"
	"github.com/hubgate/hubgate/internal/tlsfiles"
)

// makeBroker makes what answers brokers, if it is not off.
func (s *server) makeBroker(registry prometheus.Registerer) (err error) {
	c := s.config.BrokerAuth
	if c.Listen == config.ListenOff {
		return nil
	}
	options := brokerauth.Config{
		Gate: s.gate, Sessions: s.tracker, Username: c.Username, Services: brokerServices(c),
		DrainDelay: s.flags.drainDelay, DrainDeadline: s.flags.drainDeadline,
		Logger: s.log, LogAll: s.config.Log.AllChecks, Registerer: registry,
	}
	if c.TLS != nil {
		options.TLS = tlsfiles.Config{Cert: c.TLS.Cert, Key: c.TLS.Key, ClientCA: c.TLS.ClientCA, Logger: s.log}
	}
	s.broker, err = brokerauth.New(options)
	return err
}

func brokerServices(c config.BrokerAuth) []brokerauth.Service {
	services := make([]brokerauth.Service, len(c.Services))
	for i, service := range c.Services {
		services[i] = brokerauth.Service{
			Username: service.Username, Password: sha256.Sum256([]byte(service.Password)), Topics: service.Topics,
		}
	}
	return services
}

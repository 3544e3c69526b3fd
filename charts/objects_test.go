package charts

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.yaml.in/yaml/v4"
)

// object is a Kubernetes object, or a part of one.
type object map[string]any

// objects takes a stream of YAML documents apart.
func objects(text []byte) ([]object, error) {
	var list []object
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		if o != nil {
			list = append(list, o)
		}
	}
}

func (o object) at(path ...string) object {
	for _, key := range path {
		switch next := o[key].(type) {
		case map[string]any:
			o = next
		case object:
			o = next
		default:
			return object{}
		}
	}
	return o
}

func (o object) str(key string) string {
	s, _ := o[key].(string)
	return s
}

func (o object) list(key string) []object {
	var list []object
	items, _ := o[key].([]any)
	for _, item := range items {
		switch item := item.(type) {
		case map[string]any:
			list = append(list, item)
		case object:
			list = append(list, item)
		}
	}
	return list
}

func (o object) strs(key string) []string {
	var list []string
	items, _ := o[key].([]any)
	for _, item := range items {
		if s, ok := item.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// find is the object of a kind whose name ends so; nil if there is none.
func find(list []object, kind, name string) object {
	for _, o := range list {
		if o.str("kind") == kind && o.at("metadata").str("name") == name {
			return o
		}
	}
	return nil
}

func parse(t *testing.T, text string) []object {
	t.Helper()
	list, err := objects([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

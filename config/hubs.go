package config

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/hubgate/hubgate/provision"
	"github.com/hubgate/hubgate/trust"
)

var hubKeys = []string{"id", "name", "enabled", "auto_provisioning", "sni_only", "unicode_names", "trust_anchors", "rotation_groups", "intermediates", "crls", "policy"}

// declared is a hub of the file while it is read: where its parts stand, and
// which fields are unfit already, so that nothing is reported twice.
type declared struct {
	section *section
	anchors []item // by index of hub.Anchors
	unfit   []string
}

// hubs reads the declared hubs and checks them side by side.
func (l *loader) hubs(top *section) []provision.Hub {
	var (
		hubs   []provision.Hub
		places []declared
	)
	for i, node := range top.list("hubs") {
		s := l.section(node, fmt.Sprintf("hubs[%d]", i), hubKeys...)
		if s == nil {
			continue
		}
		h, place := l.hub(s)
		hubs = append(hubs, h)
		places = append(places, place)
	}
	for _, problem := range provision.CheckHubs(hubs) {
		places[problem.Hub].report(problem)
	}
	return hubs
}

func (l *loader) hub(s *section) (provision.Hub, declared) {
	place := declared{section: s}
	h := provision.Hub{
		Declared:         l.file,
		Name:             s.str("name"),
		Disabled:         !s.boolean("enabled", true),
		AutoProvisioning: s.boolean("auto_provisioning", false),
		SNIOnly:          s.boolean("sni_only", false),
		UnicodeNames:     s.boolean("unicode_names", false),
	}
	h.CRLSources = l.crlSources(s)
	h.Policy = l.policy(s.sub("policy", policyKeys...), &place)
	h.ID = provision.DeclaredHubID(h.Name)
	if h.Name == "" {
		place.unfit = append(place.unfit, "name", "id")
		if !s.has("name") {
			s.problem("name", "is missing: give the hub a name (a DNS label, such as factory)")
		}
	}
	if s.has("id") {
		text := s.str("id")
		id, err := provision.ParseHubID(text)
		switch {
		case text == "":
			place.unfit = append(place.unfit, "id")
		case err != nil || id.IsZero():
			s.problem("id", "%q is no UUID: write one as printed by uuidgen, or remove the key and the ID follows from the name", text)
			place.unfit = append(place.unfit, "id")
		default:
			h.ID = id
		}
	}
	anchors := l.certificates(s, "trust_anchors", &place)
	for _, c := range anchors {
		h.Anchors = append(h.Anchors, c.der)
		place.anchors = append(place.anchors, c.item)
	}
	h.AnchorFacts = l.rotationGroups(s, anchors, &place)
	for _, c := range l.certificates(s, "intermediates", &place) {
		h.Intermediates = append(h.Intermediates, c.der)
	}
	return h, place
}

// report turns what the domain says of a hub into a problem at its line.
func (d *declared) report(problem *provision.HubError) {
	if slices.Contains(d.unfit, problem.Field) {
		return
	}
	switch {
	case problem.Field == "auto_provisioning" && slices.Contains(d.unfit, "trust_anchors"):
		// It has anchors, they could not be read.
	case problem.Field == "trust_anchors" && problem.Item >= 0:
		at := d.anchors[problem.Item]
		d.section.loader.add(at.line, at.key, "%s: %v", at.value, problem)
	default:
		d.section.problem(problem.Field, "%v", problem)
	}
}

// rotationGroups reads which of the anchors take each other's place: lists of
// files out of trust_anchors.
func (l *loader) rotationGroups(s *section, anchors []certificate, place *declared) map[trust.Fingerprint]provision.AnchorFacts {
	facts := make(map[trust.Fingerprint]provision.AnchorFacts)
	for i, node := range s.list("rotation_groups") {
		at := fmt.Sprintf("%s[%d]", s.key("rotation_groups"), i)
		if !l.isKind(node, at, yaml.SequenceNode, "a list of files of trust_anchors") {
			continue
		}
		for j, entry := range node.Content {
			key := fmt.Sprintf("%s[%d]", at, j)
			file, ok := l.str(entry, key)
			if !ok {
				continue
			}
			found := false
			for _, c := range anchors {
				if l.resolve(c.value) != l.resolve(file) {
					continue
				}
				found = true
				print := trust.FingerprintOfDER(c.der)
				if facts[print].Group != "" {
					l.add(entry.Line, key, "%s is in a group already", file)
				}
				facts[print] = provision.AnchorFacts{Group: fmt.Sprint(i + 1)}
			}
			if !found && !slices.Contains(place.unfit, "trust_anchors") {
				l.add(entry.Line, key, "%s is none of trust_anchors", file)
			}
		}
	}
	if len(facts) == 0 {
		return nil
	}
	return facts
}

package admin

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// position is how far a reader of events has come: the number of the last event
// read, by partition. A partition that is not in it has not been read at all.
type position map[int]uint64

// String is the position as a cursor: partition:number pairs.
func (p position) String() string {
	var b strings.Builder
	for _, partition := range slices.Sorted(maps.Keys(p)) {
		if p[partition] == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d", partition, p[partition])
	}
	if b.Len() == 0 {
		return startCursor
	}
	return b.String()
}

// startCursor is the cursor before all events.
const startCursor = "start"

func parsePosition(cursor string, partitions int) (position, error) {
	p := make(position)
	if cursor == startCursor {
		return p, nil
	}
	for pair := range strings.SplitSeq(cursor, ",") {
		left, right, _ := strings.Cut(pair, ":")
		partition, err := strconv.ParseUint(left, 10, 16)
		if err != nil || int(partition) >= partitions {
			return nil, invalid("cursor %q: %q is no partition of this store", cursor, left)
		}
		seq, err := strconv.ParseUint(right, 10, 64)
		if err != nil {
			return nil, invalid("cursor %q: write start, or what the id of an event said", cursor)
		}
		if _, twice := p[int(partition)]; twice {
			return nil, invalid("cursor %q: partition %d is in it twice", cursor, partition)
		}
		p[int(partition)] = seq
	}
	return p, nil
}

package guard

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// maxKept bounds the keys whose use is remembered. A flood of new ones drives
// out those seen once first.
const maxKept = 10_000

// limits is an allowance for each key.
type limits struct {
	perSecond rate.Limit
	burst     int
	kept      *otter.Cache[string, *rate.Limiter]
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{
		perSecond: rate.Limit(perSecond), burst: burst,
		kept: otter.Must(&otter.Options[string, *rate.Limiter]{MaximumSize: maxKept}),
	}
}

// take uses one of the key's allowance and returns 0, or how long to wait.
func (l *limits) take(key string) time.Duration {
	limiter, _ := l.kept.ComputeIfAbsent(key, func() (*rate.Limiter, bool) {
		return rate.NewLimiter(l.perSecond, l.burst), false
	})
	now := time.Now()
	reservation := limiter.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration, text string, fail Fail) {
	seconds := strconv.Itoa(int(math.Ceil(wait.Seconds())))
	w.Header().Set("Retry-After", seconds)
	fail(w, r, http.StatusTooManyRequests, "too_many_requests", text+": try again in "+seconds+" s")
}

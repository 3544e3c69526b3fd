package redisstore

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts. Those on a partition begin with the prelude; Store.change runs
// them. Each file says what it takes and returns.
var (
	//go:embed scripts/prelude.lua
	prelude string

	//go:embed scripts/device_create.lua
	luaDeviceCreate string
	//go:embed scripts/device_update.lua
	luaDeviceUpdate string
	//go:embed scripts/device_put.lua
	luaDevicePut string
	//go:embed scripts/device_delete.lua
	luaDeviceDelete string
	//go:embed scripts/hub_create.lua
	luaHubCreate string
	//go:embed scripts/hub_update.lua
	luaHubUpdate string
	//go:embed scripts/hub_clear.lua
	luaHubClear string
	//go:embed scripts/hub_delete.lua
	luaHubDelete string
	//go:embed scripts/hub_void.lua
	luaHubVoid string
	//go:embed scripts/learn.lua
	luaLearn string
	//go:embed scripts/forget.lua
	luaForget string

	//go:embed scripts/revoke.lua
	luaRevoke string

	//go:embed scripts/claim_put.lua
	luaClaimPut string
	//go:embed scripts/claim_remove.lua
	luaClaimRemove string

	//go:embed scripts/session_put.lua
	luaSessionPut string
	//go:embed scripts/session_claim.lua
	luaSessionClaim string
	//go:embed scripts/session_remove.lua
	luaSessionRemove string
	//go:embed scripts/session_reap.lua
	luaSessionReap string
	//go:embed scripts/session_announce.lua
	luaSessionAnnounce string

	//go:embed scripts/event_append.lua
	luaEventAppend string
	//go:embed scripts/event_trim.lua
	luaEventTrim string
	//go:embed scripts/cursor_claim.lua
	luaCursorClaim string
	//go:embed scripts/cursor_save.lua
	luaCursorSave string

	//go:embed scripts/touch.lua
	luaTouch string

	//go:embed scripts/found.lua
	luaFound string
	//go:embed scripts/name_take.lua
	luaNameTake string
	//go:embed scripts/name_release.lua
	luaNameRelease string
	//go:embed scripts/token_set.lua
	luaTokenSet string

	scriptDeviceCreate = redis.NewScript(prelude + luaDeviceCreate)
	scriptDeviceUpdate = redis.NewScript(prelude + luaDeviceUpdate)
	scriptDevicePut    = redis.NewScript(prelude + luaDevicePut)
	scriptDeviceDelete = redis.NewScript(prelude + luaDeviceDelete)
	scriptHubCreate    = redis.NewScript(prelude + luaHubCreate)
	scriptHubUpdate    = redis.NewScript(prelude + luaHubUpdate)
	scriptHubClear     = redis.NewScript(prelude + luaHubClear)
	scriptHubDelete    = redis.NewScript(prelude + luaHubDelete)
	scriptHubVoid      = redis.NewScript(prelude + luaHubVoid)
	scriptLearn        = redis.NewScript(prelude + luaLearn)
	scriptForget       = redis.NewScript(prelude + luaForget)
	scriptRevoke       = redis.NewScript(prelude + luaRevoke)

	scriptClaimPut    = redis.NewScript(prelude + luaClaimPut)
	scriptClaimRemove = redis.NewScript(prelude + luaClaimRemove)

	scriptSessionPut      = redis.NewScript(prelude + luaSessionPut)
	scriptSessionClaim    = redis.NewScript(prelude + luaSessionClaim + luaSessionPut)
	scriptSessionRemove   = redis.NewScript(prelude + luaSessionRemove)
	scriptSessionReap     = redis.NewScript(prelude + luaSessionReap)
	scriptSessionAnnounce = redis.NewScript(prelude + luaSessionAnnounce)

	scriptEventAppend = redis.NewScript(prelude + luaEventAppend)
	scriptEventTrim   = redis.NewScript(prelude + luaEventTrim)
	scriptCursorClaim = redis.NewScript(prelude + luaCursorClaim)
	scriptCursorSave  = redis.NewScript(prelude + luaCursorSave)

	scriptTouch = redis.NewScript(prelude + luaTouch)

	scriptFound       = redis.NewScript(luaFound)
	scriptNameTake    = redis.NewScript(luaNameTake)
	scriptNameRelease = redis.NewScript(luaNameRelease)
	scriptTokenSet    = redis.NewScript(luaTokenSet)
)

// word is the outcome that a script returns.
type word string

const (
	wordOK       word = "ok"
	wordStore    word = "store"
	wordDone     word = "done"
	wordExists   word = "exists"
	wordHub      word = "hub"
	wordConflict word = "conflict"
	wordGone     word = "gone"
	wordVoid     word = "void"
	wordNamed    word = "named"
	wordHeld     word = "held"
	wordDevices  word = "devices"
	wordFull     word = "full"
	wordTaken    word = "taken"

	wordUnclaimed word = "unclaimed"
	wordQuota     word = "quota"
	wordRate      word = "rate"
)

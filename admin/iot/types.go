package iot

import "time"

// The JSON of the API: what version 1.39.0 of the Go SDK sends and reads
// (https://pkg.go.dev/github.com/scaleway/scaleway-sdk-go@v1.39.0/api/iot/v1).

// hub is a hub.
type hub struct {
	ID                           string    `json:"id"`
	Name                         string    `json:"name"`
	Status                       hubStatus `json:"status"`
	ProductPlan                  string    `json:"product_plan"`
	Enabled                      bool      `json:"enabled"`
	DeviceCount                  uint64    `json:"device_count"`
	ConnectedDeviceCount         uint64    `json:"connected_device_count"`
	Endpoint                     string    `json:"endpoint"`
	DisableEvents                bool      `json:"disable_events"`
	EventsTopicPrefix            string    `json:"events_topic_prefix"`
	Region                       string    `json:"region"`
	CreatedAt                    time.Time `json:"created_at"`
	UpdatedAt                    time.Time `json:"updated_at"`
	ProjectID                    string    `json:"project_id"`
	OrganizationID               string    `json:"organization_id"`
	EnableDeviceAutoProvisioning bool      `json:"enable_device_auto_provisioning"`
	HasCustomCA                  bool      `json:"has_custom_ca"`
}

// hubStatus is where a hub is in its life. Clients poll while it is enabling or
// disabling.
type hubStatus string

const (
	hubEnabling  hubStatus = "enabling"
	hubReady     hubStatus = "ready"
	hubDisabling hubStatus = "disabling"
	hubDisabled  hubStatus = "disabled"
)

// planShared is the one product plan there is.
const planShared = "plan_shared"

type createHubRequest struct {
	Name                string  `json:"name"`
	ProjectID           string  `json:"project_id"`
	ProductPlan         string  `json:"product_plan"`
	DisableEvents       *bool   `json:"disable_events"`
	EventsTopicPrefix   *string `json:"events_topic_prefix"`
	TwinsGraphiteConfig *twins  `json:"twins_graphite_config"`
}

type updateHubRequest struct {
	Name                         *string `json:"name"`
	ProductPlan                  string  `json:"product_plan"`
	DisableEvents                *bool   `json:"disable_events"`
	EventsTopicPrefix            *string `json:"events_topic_prefix"`
	EnableDeviceAutoProvisioning *bool   `json:"enable_device_auto_provisioning"`
	TwinsGraphiteConfig          *twins  `json:"twins_graphite_config"`
}

// twins is what nobody has implemented yet.
type twins struct {
	PushURI string `json:"push_uri"`
}

type listHubsResponse struct {
	TotalCount uint32 `json:"total_count"`
	Hubs       []hub  `json:"hubs"`
}

type setHubCARequest struct {
	CACertPEM        string `json:"ca_cert_pem"`
	ChallengeCertPEM string `json:"challenge_cert_pem"`
}

type getHubCAResponse struct {
	CACertPEM string `json:"ca_cert_pem"`
}

// device is a device. The vendor's Terraform provider reads the times and the
// filters of every device, so there are always some.
type device struct {
	ID                       string         `json:"id"`
	Name                     string         `json:"name"`
	Description              string         `json:"description"`
	Status                   deviceStatus   `json:"status"`
	HubID                    string         `json:"hub_id"`
	LastActivityAt           time.Time      `json:"last_activity_at"`
	IsConnected              bool           `json:"is_connected"`
	AllowInsecure            bool           `json:"allow_insecure"`
	AllowMultipleConnections bool           `json:"allow_multiple_connections"`
	MessageFilters           messageFilters `json:"message_filters"`
	HasCustomCertificate     bool           `json:"has_custom_certificate"`
	CreatedAt                time.Time      `json:"created_at"`
	UpdatedAt                time.Time      `json:"updated_at"`
	Region                   string         `json:"region"`
}

type deviceStatus string

const (
	deviceEnabled  deviceStatus = "enabled"
	deviceDisabled deviceStatus = "disabled"
)

// messageFilters of a request may leave one out, which is then not changed.
type messageFilters struct {
	Publish   *filterRule `json:"publish"`
	Subscribe *filterRule `json:"subscribe"`
}

type filterRule struct {
	Policy filterPolicy `json:"policy"`
	Topics []string     `json:"topics"`
}

type filterPolicy string

const (
	filterAccept filterPolicy = "accept"
	filterReject filterPolicy = "reject"
)

type createDeviceRequest struct {
	Name                     string          `json:"name"`
	HubID                    string          `json:"hub_id"`
	AllowInsecure            bool            `json:"allow_insecure"`
	AllowMultipleConnections bool            `json:"allow_multiple_connections"`
	MessageFilters           *messageFilters `json:"message_filters"`
	Description              *string         `json:"description"`
}

// certificate is empty: hubgate signs none and has nobody's key.
type certificate struct {
	Crt string `json:"crt"`
	Key string `json:"key"`
}

type createDeviceResponse struct {
	Device      device      `json:"device"`
	Certificate certificate `json:"certificate"`
}

type updateDeviceRequest struct {
	Description              *string         `json:"description"`
	AllowInsecure            *bool           `json:"allow_insecure"`
	AllowMultipleConnections *bool           `json:"allow_multiple_connections"`
	MessageFilters           *messageFilters `json:"message_filters"`
	HubID                    *string         `json:"hub_id"`
}

type listDevicesResponse struct {
	TotalCount uint32   `json:"total_count"`
	Devices    []device `json:"devices"`
}

type setDeviceCertificateRequest struct {
	CertificatePEM string `json:"certificate_pem"`
}

type deviceCertificateResponse struct {
	Device         device `json:"device"`
	CertificatePEM string `json:"certificate_pem"`
}

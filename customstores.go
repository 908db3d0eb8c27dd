package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pocketkms/kms/internal/keydb"
	"github.com/pocketkms/kms/internal/uuid"
)

// CreateCustomKeyStoreInput describes a new custom key store. The members of the other
// CustomKeyStoreType must be absent.
type CreateCustomKeyStoreInput struct {
	// CustomKeyStoreName is a name that no other custom key store of the account and Region has. It
	// must hold no secrets: it is logged in the clear.
	CustomKeyStoreName string `kms:"required,len=1..256"`

	// CustomKeyStoreType is what holds the keys; absent means CustomKeyStoreTypeAWSCloudHSM. It
	// cannot be changed later.
	CustomKeyStoreType CustomKeyStoreType `kms:"default=AWS_CLOUDHSM"`

	// CloudHsmClusterId is the cluster, one of Config.Devices. It is required for
	// CustomKeyStoreTypeAWSCloudHSM, as are TrustAnchorCertificate and KeyStorePassword.
	CloudHsmClusterId string `kms:"len=19..24,pattern=clusterID"`

	// TrustAnchorCertificate is the certificate that the cluster was initialized with, in PEM.
	TrustAnchorCertificate string `kms:"len=1..5000"`

	// KeyStorePassword is the password of the user kmsuser in the cluster, 7 to 32 characters.
	KeyStorePassword string `kms:"len=7..32,secret"`

	// XksProxyUriEndpoint and XksProxyUriPath are where the proxy of the external key manager is:
	// joined, one of Config.Devices. They are required for CustomKeyStoreTypeExternalKeyStore, as are
	// XksProxyAuthenticationCredential and XksProxyConnectivity.
	XksProxyUriEndpoint string `kms:"len=10..128,pattern=xksURIEndpoint"`

	// XksProxyUriPath begins with a slash and ends with /kms/xks/v1.
	XksProxyUriPath string `kms:"len=10..128,pattern=xksURIPath"`

	// XksProxyAuthenticationCredential is what requests to the proxy are signed with.
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredentialType

	// XksProxyConnectivity is how the proxy is reached. With XksProxyConnectivityPublicEndpoint it
	// must be reachable when the custom key store is created.
	XksProxyConnectivity XksProxyConnectivityType

	// XksProxyVpcEndpointServiceName is required with XksProxyConnectivityVPCEndpointService, and not
	// allowed otherwise.
	XksProxyVpcEndpointServiceName string `kms:"len=20..64,pattern=vpcEndpointService"`

	// XksProxyVpcEndpointServiceOwner is the account of that service; absent means the caller's.
	XksProxyVpcEndpointServiceOwner string `kms:"len=12..12,pattern=accountID"`
}

// CreateCustomKeyStoreOutput names the new custom key store.
type CreateCustomKeyStoreOutput struct {
	// CustomKeyStoreId is "cks-" and 17 hexadecimal digits.
	CustomKeyStoreId string
}

// XksProxyAuthenticationCredentialType is an access key of the proxy of an external key manager.
type XksProxyAuthenticationCredentialType struct {
	// AccessKeyId names the key.
	AccessKeyId string `kms:"required,len=20..30,pattern=xksAccessKeyID,secret"`

	// RawSecretAccessKey is the key.
	RawSecretAccessKey string `kms:"required,len=43..64,pattern=xksSecretAccessKey,secret"`
}

// UpdateCustomKeyStoreInput says what changes in a custom key store; what is absent stays. All
// except NewCustomKeyStoreName, XksProxyAuthenticationCredential and XksProxyUriPath requires that
// it is disconnected.
type UpdateCustomKeyStoreInput struct {
	// CustomKeyStoreId is the custom key store.
	CustomKeyStoreId string `kms:"required,len=1..64"`

	// NewCustomKeyStoreName is a name that no other custom key store of the account and Region has.
	NewCustomKeyStoreName string `kms:"len=1..256"`

	// KeyStorePassword is the present password of the user kmsuser in the cluster.
	KeyStorePassword string `kms:"len=7..32,secret"`

	// CloudHsmClusterId is another cluster with the same TrustAnchorCertificate.
	CloudHsmClusterId string `kms:"len=19..24,pattern=clusterID"`

	// XksProxyUriEndpoint is the new endpoint of the proxy.
	XksProxyUriEndpoint string `kms:"len=10..128,pattern=xksURIEndpoint"`

	// XksProxyUriPath is the new path of the proxy.
	XksProxyUriPath string `kms:"len=10..128,pattern=xksURIPath"`

	// XksProxyVpcEndpointServiceName is the new service; it requires that the connectivity is
	// XksProxyConnectivityVPCEndpointService.
	XksProxyVpcEndpointServiceName string `kms:"len=20..64,pattern=vpcEndpointService"`

	// XksProxyVpcEndpointServiceOwner is the account of that service.
	XksProxyVpcEndpointServiceOwner string `kms:"len=12..12,pattern=accountID"`

	// XksProxyAuthenticationCredential is the new access key.
	XksProxyAuthenticationCredential *XksProxyAuthenticationCredentialType

	// XksProxyConnectivity is the new connectivity. It requires another XksProxyUriEndpoint, and with
	// XksProxyConnectivityVPCEndpointService an XksProxyVpcEndpointServiceName.
	XksProxyConnectivity XksProxyConnectivityType
}

// UpdateCustomKeyStoreOutput is empty.
type UpdateCustomKeyStoreOutput struct{}

// DeleteCustomKeyStoreInput names the custom key store to delete.
type DeleteCustomKeyStoreInput struct {
	// CustomKeyStoreId is a custom key store that is disconnected and has no keys.
	CustomKeyStoreId string `kms:"required,len=1..64"`
}

// DeleteCustomKeyStoreOutput is empty.
type DeleteCustomKeyStoreOutput struct{}

// ConnectCustomKeyStoreInput names the custom key store to connect.
type ConnectCustomKeyStoreInput struct {
	// CustomKeyStoreId is the custom key store.
	CustomKeyStoreId string `kms:"required,len=1..64"`
}

// ConnectCustomKeyStoreOutput is empty.
type ConnectCustomKeyStoreOutput struct{}

// DisconnectCustomKeyStoreInput names the custom key store to disconnect.
type DisconnectCustomKeyStoreInput struct {
	// CustomKeyStoreId is the custom key store.
	CustomKeyStoreId string `kms:"required,len=1..64"`
}

// DisconnectCustomKeyStoreOutput is empty.
type DisconnectCustomKeyStoreOutput struct{}

// DescribeCustomKeyStoresInput selects custom key stores of the caller's account and Region. At
// most one of CustomKeyStoreId and CustomKeyStoreName may be present; without them, all are meant.
type DescribeCustomKeyStoresInput struct {
	// CustomKeyStoreId selects the custom key store of that ID.
	CustomKeyStoreId string `kms:"len=1..64"`

	// CustomKeyStoreName selects the custom key store of that name.
	CustomKeyStoreName string `kms:"len=1..256"`

	// Limit is the most custom key stores to return, 1 to 1,000; nil means 100.
	Limit *int32 `kms:"range=1..1000"`

	// Marker is the NextMarker of the previous page; absent in the first call.
	Marker string `kms:"len=1..1024,pattern=marker"`
}

// DescribeCustomKeyStoresOutput is a page of custom key stores.
type DescribeCustomKeyStoresOutput struct {
	// CustomKeyStores are sorted by ID.
	CustomKeyStores []CustomKeyStoresListEntry `kms:"emitzero"`

	// NextMarker is the Marker of the next page; present if and only if Truncated.
	NextMarker string

	// Truncated reports whether more custom key stores follow.
	Truncated bool `kms:"emitzero"`
}

// CustomKeyStoresListEntry describes a custom key store, without its secret.
type CustomKeyStoresListEntry struct {
	// CustomKeyStoreId is the ID of the custom key store.
	CustomKeyStoreId string

	// CustomKeyStoreName is its name.
	CustomKeyStoreName string

	// CustomKeyStoreType is what holds its keys.
	CustomKeyStoreType CustomKeyStoreType

	// CreationDate is when it was created.
	CreationDate time.Time

	// ConnectionState says whether it is connected.
	ConnectionState ConnectionStateType

	// ConnectionErrorCode says why not; absent unless ConnectionState is ConnectionStateFailed.
	ConnectionErrorCode ConnectionErrorCodeType

	// CloudHsmClusterId is the cluster, for CustomKeyStoreTypeAWSCloudHSM.
	CloudHsmClusterId string

	// TrustAnchorCertificate is the certificate of the cluster, for CustomKeyStoreTypeAWSCloudHSM.
	TrustAnchorCertificate string

	// XksProxyConfiguration is where the proxy is, for CustomKeyStoreTypeExternalKeyStore.
	XksProxyConfiguration *XksProxyConfigurationType
}

// XksProxyConfigurationType is where the proxy of an external key manager is.
type XksProxyConfigurationType struct {
	// AccessKeyId names the access key.
	AccessKeyId string

	// Connectivity is how the proxy is reached.
	Connectivity XksProxyConnectivityType

	// UriEndpoint is the endpoint.
	UriEndpoint string

	// UriPath is the path.
	UriPath string

	// VpcEndpointServiceName is the service, for XksProxyConnectivityVPCEndpointService.
	VpcEndpointServiceName string

	// VpcEndpointServiceOwner is the account of that service.
	VpcEndpointServiceOwner string
}

var opCreateCustomKeyStore = define(description{
	name: "CreateCustomKeyStore",
}, steps[CreateCustomKeyStoreInput, CreateCustomKeyStoreOutput]{
	validate: validateCreateStore,
	act: func(c *call, in *CreateCustomKeyStoreInput) (*CreateCustomKeyStoreOutput, error) {
		all, err := c.svc.core.db.Stores(c.ctx, c.svc.caller.account, c.svc.region)
		if err != nil {
			return nil, err
		}
		s := &keydb.Store{
			StoreRef:    keydb.StoreRef{Account: c.svc.caller.account, Region: c.svc.region, ID: newStoreID()},
			StoreRecord: in.record(c),
		}
		if err := c.requireUnique(all, s); err != nil {
			return nil, err
		}
		if limit := c.svc.core.config.Limits.CustomKeyStoresPerRegion; all.Len() >= limit {
			return nil, limitExceeded("Custom key stores", limit, all.Len())
		}
		if s.Service == "" { // a VPC endpoint service is tried by ConnectCustomKeyStore
			if err := c.tryDevice(s, in.secret(), IncorrectTrustAnchorException); err != nil {
				return nil, err
			}
		}
		if err := c.svc.core.db.CreateStore(c.ctx, all, s.StoreRef, s.StoreRecord, in.secret()); err != nil {
			return nil, err
		}
		return &CreateCustomKeyStoreOutput{CustomKeyStoreId: s.ID}, nil
	},
})

// CreateCustomKeyStore creates a custom key store: the use of one of Config.Devices for keys of the
// caller's account and Region. It is disconnected: see [Service.ConnectCustomKeyStore].
func (s *Service) CreateCustomKeyStore(ctx context.Context, in *CreateCustomKeyStoreInput) (*CreateCustomKeyStoreOutput, error) {
	return opCreateCustomKeyStore.do(ctx, s, in)
}

// newStoreID returns a random ID in the form of the API.
func newStoreID() string {
	var id [9]byte
	rand.Read(id[:])
	return "cks-" + hex.EncodeToString(id[:])[:17]
}

func validateCreateStore(in *CreateCustomKeyStoreInput) error {
	if err := requireText("A custom key store name or certificate", in.CustomKeyStoreName, in.TrustAnchorCertificate); err != nil {
		return err
	}
	hsm := in.CloudHsmClusterId != "" && in.TrustAnchorCertificate != "" && in.KeyStorePassword != ""
	external := in.XksProxyUriEndpoint != "" && in.XksProxyUriPath != "" && in.XksProxyConnectivity != "" && in.XksProxyAuthenticationCredential != nil
	vpc := in.XksProxyConnectivity == XksProxyConnectivityVPCEndpointService
	switch in.CustomKeyStoreType {
	case CustomKeyStoreTypeExternalKeyStore:
		switch {
		case in.CloudHsmClusterId+in.TrustAnchorCertificate+in.KeyStorePassword != "":
			return invalid("CloudHsmClusterId, TrustAnchorCertificate and KeyStorePassword are only valid with CustomKeyStoreType AWS_CLOUDHSM.")
		case !external:
			return invalid("CustomKeyStoreType EXTERNAL_KEY_STORE requires XksProxyConnectivity, XksProxyUriEndpoint, XksProxyUriPath and XksProxyAuthenticationCredential.")
		case vpc != (in.XksProxyVpcEndpointServiceName != "") || !vpc && in.XksProxyVpcEndpointServiceOwner != "":
			return errServiceName
		}
		return requireDNSName(in.XksProxyUriEndpoint)
	}
	switch {
	case in.XksProxyUriEndpoint+in.XksProxyUriPath+in.XksProxyVpcEndpointServiceName+in.XksProxyVpcEndpointServiceOwner+string(in.XksProxyConnectivity) != "" ||
		in.XksProxyAuthenticationCredential != nil:
		return invalid("The members whose names begin with Xks are only valid with CustomKeyStoreType EXTERNAL_KEY_STORE.")
	case !hsm:
		return invalid("CustomKeyStoreType AWS_CLOUDHSM requires CloudHsmClusterId, TrustAnchorCertificate and KeyStorePassword.")
	}
	return nil
}

var errServiceName = invalid("XksProxyVpcEndpointServiceName is required with XksProxyConnectivity VPC_ENDPOINT_SERVICE, and only valid with it, as is XksProxyVpcEndpointServiceOwner.")

// requireDNSName refuses an endpoint whose host cannot be a DNS name.
func requireDNSName(endpoint string) error {
	host := strings.TrimPrefix(endpoint, "https://")
	labels := strings.Split(host, ".")
	numeric := strings.Trim(labels[len(labels)-1], "0123456789") == "" // the last label of a name is not
	if numeric || slices.ContainsFunc(labels, func(l string) bool {
		return l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-")
	}) {
		return invalid("XksProxyUriEndpoint must have a DNS name.")
	}
	return nil
}

func (in *CreateCustomKeyStoreInput) record(c *call) *keydb.StoreRecord {
	r := &keydb.StoreRecord{
		Name:         in.CustomKeyStoreName,
		Type:         string(orDefault(in.CustomKeyStoreType, CustomKeyStoreTypeAWSCloudHSM)),
		Created:      c.now.UTC(),
		State:        keydb.Disconnected,
		Cluster:      in.CloudHsmClusterId,
		TrustAnchor:  in.TrustAnchorCertificate,
		Connectivity: string(in.XksProxyConnectivity),
		Endpoint:     in.XksProxyUriEndpoint,
		Path:         in.XksProxyUriPath,
		Service:      in.XksProxyVpcEndpointServiceName,
	}
	if r.Service != "" {
		r.ServiceOwner = orDefault(in.XksProxyVpcEndpointServiceOwner, c.svc.caller.account)
	}
	if in.XksProxyAuthenticationCredential != nil {
		r.AccessKeyID = in.XksProxyAuthenticationCredential.AccessKeyId
	}
	return r
}

func (in *CreateCustomKeyStoreInput) secret() []byte {
	return storeSecret(in.KeyStorePassword, in.XksProxyAuthenticationCredential)
}

// storeSecret returns the secret of a device, or nil.
func storeSecret(password string, credential *XksProxyAuthenticationCredentialType) []byte {
	switch {
	case password != "":
		return []byte(password)
	case credential != nil:
		return []byte(credential.RawSecretAccessKey)
	}
	return nil
}

// requireUnique refuses a custom key store, new or changed, that has what another one has.
func (c *call) requireUnique(all *keydb.Stores, s *keydb.Store) error {
	for other, err := range c.svc.core.db.Sorted(c.ctx, all) {
		if err != nil {
			return err
		}
		public := func(s *keydb.Store) bool { return s.Service == "" }
		switch {
		case other.ID == s.ID:
		case other.Name == s.Name:
			return exception(CustomKeyStoreNameInUseException, "The name %s is that of another custom key store.", s.Name)
		case other.External() != s.External():
		case !s.External():
			if other.Cluster == s.Cluster || strings.TrimSpace(other.TrustAnchor) == strings.TrimSpace(s.TrustAnchor) {
				return exception(CloudHsmClusterInUseException, "The cluster %s, or a cluster with the same certificate, is that of another custom key store.", s.Cluster)
			}
		case other.DeviceName() == s.DeviceName():
			return exception(XksProxyUriInUseException, "The proxy URI %s is that of another custom key store.", s.DeviceName())
		case other.Endpoint == s.Endpoint && !(public(other) && public(s)):
			return exception(XksProxyUriEndpointInUseException, "The proxy URI endpoint %s is that of another custom key store.", s.Endpoint)
		case other.Service == s.Service && !public(s):
			return exception(XksProxyVpcEndpointServiceInUseException, "The VPC endpoint service %s is that of another custom key store.", s.Service)
		}
	}
	return nil
}

// tryDevice refuses a custom key store, new or changed, whose device does not answer as it must. A
// cluster is not logged in to. unrelated is the exception for one with another certificate.
func (c *call) tryDevice(s *keydb.Store, login []byte, unrelated ErrorCode) error {
	if !s.External() {
		login = nil
	}
	health, err := c.svc.core.db.DeviceHealth(c.ctx, s, login, c.deviceCall())
	var failure *keydb.DeviceError
	switch {
	case errors.As(err, &failure):
		return exception(ErrorCode(failure.StoreException()), "%s", failure.Message())
	case err != nil || s.External():
		return err
	case !s.HasTrustAnchor(health):
		return exception(unrelated, "The trust anchor certificate is not that of the cluster %s.", s.Cluster)
	}
	return requireHSMs(s, health)
}

// requireHSMs refuses a cluster that has too few HSMs to store a new key.
func requireHSMs(s *keydb.Store, health keydb.DeviceHealth) error {
	if health.HSMs < 2 {
		return exception(CloudHsmClusterInvalidConfigurationException, "The cluster %s has %d active HSMs; it must have 2.", s.Cluster, health.HSMs)
	}
	return nil
}

// deviceCall says to a device on whose behalf it is called.
func (c *call) deviceCall() keydb.DeviceCall {
	return keydb.DeviceCall{Operation: c.op.name, RequestID: uuid.Format(c.requestID()), Principal: c.svc.caller.arn}
}

var opUpdateCustomKeyStore = define(description{
	name: "UpdateCustomKeyStore",
}, steps[UpdateCustomKeyStoreInput, UpdateCustomKeyStoreOutput]{
	validate: func(in *UpdateCustomKeyStoreInput) error {
		if in.XksProxyUriEndpoint != "" {
			if err := requireDNSName(in.XksProxyUriEndpoint); err != nil {
				return err
			}
		}
		return requireText("A custom key store name", in.NewCustomKeyStoreName)
	},
	act: func(c *call, in *UpdateCustomKeyStoreInput) (*UpdateCustomKeyStoreOutput, error) {
		db := c.svc.core.db
		s, err := c.customKeyStore(in.CustomKeyStoreId)
		if err != nil {
			return nil, err
		}
		changed, err := in.change(c, s.StoreRecord)
		if err != nil {
			return nil, err
		}
		if in.needsDisconnected() && s.State != keydb.Disconnected || s.State != keydb.Disconnected && s.State != keydb.Connected {
			return nil, wrongConnectionState(s)
		}
		all, err := db.Stores(c.ctx, s.Account, s.Region)
		if err != nil {
			return nil, err
		}
		next := &keydb.Store{StoreRef: s.StoreRef, StoreRecord: changed}
		if err := c.requireUnique(all, next); err != nil {
			return nil, err
		}
		password := storeSecret(in.KeyStorePassword, in.XksProxyAuthenticationCredential)
		moved := changed.DeviceName()+changed.Connectivity+changed.Service != s.DeviceName()+s.Connectivity+s.Service
		if moved || password != nil && s.External() {
			login := password
			if login == nil && s.External() {
				stored, err := db.StoreSecret(c.ctx, s)
				if err != nil {
					return nil, err
				}
				defer stored.Destroy()
				login = stored.Expose()
			}
			if err := c.tryDevice(next, login, CloudHsmClusterNotRelatedException); err != nil {
				return nil, err
			}
		}
		return &UpdateCustomKeyStoreOutput{}, db.UpdateStore(c.ctx, all, s, changed, password)
	},
})

// UpdateCustomKeyStore changes the name of a custom key store, the device that it uses, or what the
// service knows of it, such as its password. The keys stay: a new device must have them, too.
func (s *Service) UpdateCustomKeyStore(ctx context.Context, in *UpdateCustomKeyStoreInput) (*UpdateCustomKeyStoreOutput, error) {
	return opUpdateCustomKeyStore.do(ctx, s, in)
}

// needsDisconnected reports whether something changes that cannot while the store is connected.
func (in *UpdateCustomKeyStoreInput) needsDisconnected() bool {
	return in.KeyStorePassword+in.CloudHsmClusterId+in.XksProxyUriEndpoint+in.XksProxyVpcEndpointServiceName+in.XksProxyVpcEndpointServiceOwner+
		string(in.XksProxyConnectivity) != ""
}

// change returns what becomes of the record r.
func (in *UpdateCustomKeyStoreInput) change(c *call, r *keydb.StoreRecord) (*keydb.StoreRecord, error) {
	next := *r
	next.Name = orDefault(in.NewCustomKeyStoreName, r.Name)
	external := in.XksProxyUriEndpoint+in.XksProxyUriPath+in.XksProxyVpcEndpointServiceName+in.XksProxyVpcEndpointServiceOwner+string(in.XksProxyConnectivity) != "" ||
		in.XksProxyAuthenticationCredential != nil
	hsm := in.KeyStorePassword+in.CloudHsmClusterId != ""
	switch {
	case hsm && r.External():
		return nil, invalid("KeyStorePassword and CloudHsmClusterId are only valid for a custom key store of type AWS_CLOUDHSM.")
	case external && !r.External():
		return nil, invalid("The members whose names begin with Xks are only valid for a custom key store of type EXTERNAL_KEY_STORE.")
	case !hsm && !external && in.NewCustomKeyStoreName == "":
		return nil, invalid("You must specify what to change in the custom key store.")
	}
	next.Cluster = orDefault(in.CloudHsmClusterId, r.Cluster)
	next.Endpoint = orDefault(in.XksProxyUriEndpoint, r.Endpoint)
	next.Path = orDefault(in.XksProxyUriPath, r.Path)
	if in.XksProxyAuthenticationCredential != nil {
		next.AccessKeyID = in.XksProxyAuthenticationCredential.AccessKeyId
	}
	next.Connectivity = orDefault(string(in.XksProxyConnectivity), r.Connectivity)
	vpc := next.Connectivity == string(XksProxyConnectivityVPCEndpointService)
	if next.Connectivity != r.Connectivity {
		if next.Endpoint == r.Endpoint {
			return nil, invalid("Another XksProxyConnectivity requires another XksProxyUriEndpoint.")
		}
		next.Service, next.ServiceOwner = "", ""
	}
	next.Service = orDefault(in.XksProxyVpcEndpointServiceName, next.Service)
	if vpc != (next.Service != "") || !vpc && in.XksProxyVpcEndpointServiceOwner != "" {
		return nil, errServiceName
	}
	if vpc {
		next.ServiceOwner = orDefault(in.XksProxyVpcEndpointServiceOwner, orDefault(next.ServiceOwner, c.svc.caller.account))
	}
	return &next, nil
}

// customKeyStore returns a custom key store of the caller's account and Region.
func (c *call) customKeyStore(id string) (*keydb.Store, error) {
	if strings.ContainsAny(id, "/\x00") { // of no record
		return nil, noSuchCustomKeyStore(id)
	}
	s, err := c.svc.core.db.Store(c.ctx, keydb.StoreRef{Account: c.svc.caller.account, Region: c.svc.region, ID: id})
	if s == nil && err == nil {
		err = noSuchCustomKeyStore(id)
	}
	return s, err
}

// wrongConnectionState returns the exception for an operation that the connection state does not
// allow.
func wrongConnectionState(s *keydb.Store) *Error {
	return exception(CustomKeyStoreInvalidStateException, "The connection state of the custom key store %s is %s, which is not valid for this operation.", s.ID, s.State)
}

var opDeleteCustomKeyStore = define(description{
	name: "DeleteCustomKeyStore",
}, steps[DeleteCustomKeyStoreInput, DeleteCustomKeyStoreOutput]{
	act: func(c *call, in *DeleteCustomKeyStoreInput) (*DeleteCustomKeyStoreOutput, error) {
		db := c.svc.core.db
		s, err := c.customKeyStore(in.CustomKeyStoreId)
		if err != nil {
			return nil, err
		}
		if s.State != keydb.Disconnected {
			return nil, wrongConnectionState(s)
		}
		all, err := db.Stores(c.ctx, s.Account, s.Region)
		if err != nil {
			return nil, err
		}
		switch has, err := db.HasKeys(c.ctx, s); {
		case err != nil:
			return nil, err
		case has:
			return nil, exception(CustomKeyStoreHasCMKsException, "The custom key store %s has KMS keys.", s.ID)
		}
		return &DeleteCustomKeyStoreOutput{}, db.DeleteStore(c.ctx, all, s)
	},
})

// DeleteCustomKeyStore deletes a custom key store that is disconnected and has no keys, not even
// keys pending deletion. It does nothing to the device.
func (s *Service) DeleteCustomKeyStore(ctx context.Context, in *DeleteCustomKeyStoreInput) (*DeleteCustomKeyStoreOutput, error) {
	return opDeleteCustomKeyStore.do(ctx, s, in)
}

var opConnectCustomKeyStore = define(description{
	name: "ConnectCustomKeyStore",
}, steps[ConnectCustomKeyStoreInput, ConnectCustomKeyStoreOutput]{
	act: func(c *call, in *ConnectCustomKeyStoreInput) (*ConnectCustomKeyStoreOutput, error) {
		s, err := c.customKeyStore(in.CustomKeyStoreId)
		switch {
		case err != nil:
			return nil, err
		case s.State != keydb.Disconnected && s.State != keydb.Connecting && s.State != keydb.Connected:
			return nil, wrongConnectionState(s)
		}
		return &ConnectCustomKeyStoreOutput{}, c.svc.core.db.Connect(c.ctx, s)
	},
})

// ConnectCustomKeyStore begins to connect a custom key store, and returns at once. The device is
// called in the background: [Service.DescribeCustomKeyStores] shows ConnectionStateConnecting until
// it has answered, and then ConnectionStateConnected or ConnectionStateFailed. An attempt that the
// end of the process interrupts is made again when the service is next opened. A store that is
// connected stays so, also over a restart, until [Service.DisconnectCustomKeyStore].
func (s *Service) ConnectCustomKeyStore(ctx context.Context, in *ConnectCustomKeyStoreInput) (*ConnectCustomKeyStoreOutput, error) {
	return opConnectCustomKeyStore.do(ctx, s, in)
}

var opDisconnectCustomKeyStore = define(description{
	name: "DisconnectCustomKeyStore",
}, steps[DisconnectCustomKeyStoreInput, DisconnectCustomKeyStoreOutput]{
	act: func(c *call, in *DisconnectCustomKeyStoreInput) (*DisconnectCustomKeyStoreOutput, error) {
		s, err := c.customKeyStore(in.CustomKeyStoreId)
		switch {
		case err != nil:
			return nil, err
		case s.State == keydb.Disconnected:
			return nil, wrongConnectionState(s)
		}
		return &DisconnectCustomKeyStoreOutput{}, c.svc.core.db.Disconnect(c.ctx, s)
	},
})

// DisconnectCustomKeyStore disconnects a custom key store. Its keys are unavailable until it is
// connected again.
func (s *Service) DisconnectCustomKeyStore(ctx context.Context, in *DisconnectCustomKeyStoreInput) (*DisconnectCustomKeyStoreOutput, error) {
	return opDisconnectCustomKeyStore.do(ctx, s, in)
}

var opDescribeCustomKeyStores = define(description{
	name: "DescribeCustomKeyStores", readOnly: true,
}, steps[DescribeCustomKeyStoresInput, DescribeCustomKeyStoresOutput]{
	validate: func(in *DescribeCustomKeyStoresInput) error {
		if in.CustomKeyStoreId != "" && in.CustomKeyStoreName != "" {
			return invalid("You can specify CustomKeyStoreId or CustomKeyStoreName, but not both.")
		}
		return nil
	},
	act: func(c *call, in *DescribeCustomKeyStoresInput) (*DescribeCustomKeyStoresOutput, error) {
		p, err := c.page(in.Marker, in.Limit, 100, c.callerList())
		if err != nil {
			return nil, err
		}
		all, err := c.svc.core.db.Stores(c.ctx, c.svc.caller.account, c.svc.region)
		if err != nil {
			return nil, err
		}
		id := in.CustomKeyStoreId
		if in.CustomKeyStoreName != "" {
			ref, ok := all.Named(in.CustomKeyStoreName)
			if !ok {
				return nil, noSuchCustomKeyStore(in.CustomKeyStoreName)
			}
			id = ref.ID
		}
		if id != "" {
			s, err := c.customKeyStore(id)
			if err != nil {
				return nil, err
			}
			return &DescribeCustomKeyStoresOutput{CustomKeyStores: []CustomKeyStoresListEntry{describeStore(s)}}, nil
		}
		list := []CustomKeyStoresListEntry{}
		for s, err := range c.svc.core.db.Sorted(c.ctx, all) {
			if err != nil {
				return nil, err
			}
			list = append(list, describeStore(s))
		}
		list, next := truncate(c, p, list, func(e CustomKeyStoresListEntry) string { return e.CustomKeyStoreId })
		return &DescribeCustomKeyStoresOutput{CustomKeyStores: list, NextMarker: next, Truncated: next != ""}, nil
	},
})

// DescribeCustomKeyStores describes custom key stores of the caller's account and Region: the one
// of an ID or of a name, or all.
func (s *Service) DescribeCustomKeyStores(ctx context.Context, in *DescribeCustomKeyStoresInput) (*DescribeCustomKeyStoresOutput, error) {
	return opDescribeCustomKeyStores.do(ctx, s, in)
}

func describeStore(s *keydb.Store) CustomKeyStoresListEntry {
	e := CustomKeyStoresListEntry{
		CustomKeyStoreId:       s.ID,
		CustomKeyStoreName:     s.Name,
		CustomKeyStoreType:     CustomKeyStoreType(s.Type),
		CreationDate:           s.Created,
		ConnectionState:        ConnectionStateType(s.State),
		ConnectionErrorCode:    ConnectionErrorCodeType(s.ErrorCode),
		CloudHsmClusterId:      s.Cluster,
		TrustAnchorCertificate: s.TrustAnchor,
	}
	if s.External() {
		e.XksProxyConfiguration = &XksProxyConfigurationType{
			AccessKeyId:             s.AccessKeyID,
			Connectivity:            XksProxyConnectivityType(s.Connectivity),
			UriEndpoint:             s.Endpoint,
			UriPath:                 s.Path,
			VpcEndpointServiceName:  s.Service,
			VpcEndpointServiceOwner: s.ServiceOwner,
		}
	}
	return e
}

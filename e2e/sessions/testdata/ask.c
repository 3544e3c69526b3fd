// A mosquitto plugin that asks over HTTP, as mosquitto-go-auth's http backend
// does with http_params_mode form and http_response_mode status. It takes that
// one's options as far as it needs them.

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *user_uri, *superuser_uri, *acl_uri;

// add appends key=value to a form.
static void add(char *form, size_t size, const char *key, const char *value)
{
	size_t n = strlen(form);
	n += snprintf(form + n, size - n, "%s%s=", n ? "&" : "", key);
	for (; value && *value && n + 4 < size; value++)
		n += snprintf(form + n, size - n, "%%%02X", (unsigned char)*value);
}

// ask posts a form and tells whether the answer is 200.
static int ask(const char *path, const char *form)
{
	static char request[1 << 20];
	char answer[16] = "";
	int n = snprintf(request, sizeof request,
		"POST %s HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n%s",
		path, strlen(form), form);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&server, sizeof server) == 0 && write(fd, request, n) == n) {
		size_t got = 0;
		for (ssize_t more; got < 12 && (more = read(fd, answer + got, 12 - got)) > 0;)
			got += more;
	}
	close(fd);
	return strcmp(answer + 8, " 200") == 0;
}

static int on_connect(int event, void *data, void *unused)
{
	struct mosquitto_evt_basic_auth *e = data;
	static char form[1 << 18];
	form[0] = 0;
	add(form, sizeof form, "username", e->username);
	add(form, sizeof form, "password", e->password);
	add(form, sizeof form, "clientid", mosquitto_client_id(e->client));
	return ask(user_uri, form) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
}

static int on_access(int event, void *data, void *unused)
{
	struct mosquitto_evt_acl_check *e = data;
	static char form[1 << 18];
	char access[4];
	form[0] = 0;
	add(form, sizeof form, "username", mosquitto_client_username(e->client));
	if (ask(superuser_uri, form))
		return MOSQ_ERR_SUCCESS;
	add(form, sizeof form, "clientid", mosquitto_client_id(e->client));
	add(form, sizeof form, "topic", e->topic);
	snprintf(access, sizeof access, "%d", e->access);
	add(form, sizeof form, "acc", access);
	return ask(acl_uri, form) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

int mosquitto_plugin_version(int count, const int *versions) { return 5; }

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **unused, struct mosquitto_opt *options, int count)
{
	for (int i = 0; i < count; i++) {
		const char *key = options[i].key, *value = options[i].value;
		if (strcmp(key, "http_host") == 0)
			inet_pton(AF_INET, value, &server.sin_addr);
		else if (strcmp(key, "http_port") == 0)
			server.sin_port = htons(atoi(value));
		else if (strcmp(key, "http_getuser_uri") == 0)
			user_uri = strdup(value);
		else if (strcmp(key, "http_superuser_uri") == 0)
			superuser_uri = strdup(value);
		else if (strcmp(key, "http_aclcheck_uri") == 0)
			acl_uri = strdup(value);
	}
	if (!user_uri || !superuser_uri || !acl_uri)
		return MOSQ_ERR_INVAL;
	int err = mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, on_connect, NULL, NULL);
	return err ? err : mosquitto_callback_register(id, MOSQ_EVT_ACL_CHECK, on_access, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *unused, struct mosquitto_opt *options, int count) { return MOSQ_ERR_SUCCESS; }

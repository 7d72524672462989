/*
 * own_network: a network namespace for a test. See own_network.h.
 */
#include "tests/upstream/own_network.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static bool
loopback_up(void)
{
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	bool ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

bool
own_network_enter(void)
{
	int flags = CLONE_NEWNET | (geteuid() == 0 ? 0 : CLONE_NEWUSER);
	return unshare(flags) == 0 && loopback_up();
}

bool
own_network_set(const char *setting, const char *value)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/net/%s", setting);
	FILE *f = fopen(path, "w");
	if (f == NULL)
		return false;
	bool ok = fputs(value, f) >= 0;
	return fclose(f) == 0 && ok;
}

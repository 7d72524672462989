/*
 * own_network: a network namespace for a test that needs other settings of the kernel than this host's. The whole process moves there
 * and stays: for a group's set-up.
 */
#ifndef TESTS_UPSTREAM_OWN_NETWORK_H
#define TESTS_UPSTREAM_OWN_NETWORK_H

#include <stdbool.h>

/** Its loopback is up. False: none can be had here. */
bool own_network_enter(void);
/** setting: a file below /proc/sys/net. */
bool own_network_set(const char *setting, const char *value);

#endif

"""A real Kerberos: a KDC of MIT's on a free port of loopback, with a database, keytabs and tickets that end with the test."""
import subprocess
import time

import harness as h

REALM = "EXAMPLE.TEST"
SERVICES = ("rcmd/localhost", "rcmd/127.0.0.1")
USERS = ("alice", "bob")


class Kerberos:
    """One KDC for its realms, each of which trusts the others, with USERS and SERVICES in each. `env` makes MIT's libraries and
    programs use it, and nothing of the machine's own."""

    def __init__(self, process, folder, realms=(REALM,)):
        self.process, self.realms = process, realms
        self.folder = folder / "kerberos"
        self.folder.mkdir()
        self.port = h.free_port()
        self.env = {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder}/no.ccache",
            "KRB5_KTNAME": f"FILE:{self.folder}/no.keytab",
            "KRB5_CLIENT_KTNAME": f"FILE:{self.folder}/no.keytab",
            "KRB5RCACHENAME": f"file2:{self.folder}/replay",
        }
        self._write_files()
        for realm in realms:
            self._make_realm(realm)
        self.kdc = None
        self.start()

    def _write_files(self):
        def section(of_realm):
            return "[realms]\n" + "".join(f" {realm} = {{\n{of_realm(realm)} }}\n" for realm in self.realms)

        def client(_realm):
            return f"  kdc = 127.0.0.1:{self.port}\n"

        def server(realm):
            return (f"  database_name = {self.folder}/{realm}.db\n  key_stash_file = {self.folder}/{realm}.stash\n"
                    f"  acl_file = {self.folder}/no.acl\n  max_life = 1h\n  supported_enctypes = aes256-cts:normal\n")

        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {self.realms[0]}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            " dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n"
            f"{section(client)}"
            f"[domain_realm]\n localhost = {self.realms[0]}\n 127.0.0.1 = {self.realms[0]}\n")
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{self.port}\n kdc_tcp_listen = 127.0.0.1:{self.port}\n"
            f"{section(server)}[logging]\n kdc = STDERR\n default = STDERR\n")

    def _make_realm(self, realm):
        self._do("kdb5_util", "-r", realm, "create", "-s", "-P", "master")
        commands = [f"add_principal -randkey {name}" for name in (*USERS, *SERVICES)]
        commands += [f"ktadd -k {self.keytab(name, realm)} {name}" for name in USERS]
        commands += [f"ktadd -k {self.keytab('rcmd', realm)} {' '.join(SERVICES)}"]
        for other in self.realms:
            if other != realm:
                commands += [f"add_principal -pw trust krbtgt/{a}@{b}" for a, b in ((realm, other), (other, realm))]
        self._do("kadmin.local", "-r", realm, text="\n".join(commands) + "\n")

    def _do(self, program, *args, text=""):
        r = subprocess.run([h.need(program), *map(str, args)], input=text, env={**h.os.environ, **self.env}, text=True,
                           capture_output=True, timeout=h.DEADLINE * h.SLOW)
        failed = r.returncode != 0 or (program == "kadmin.local" and " while " in r.stderr)
        assert not failed, (program, args, r.stdout, r.stderr)
        return r.stdout

    def start(self):
        """The KDC; again after stop()."""
        realms = [word for realm in self.realms for word in ("-r", realm)]
        self.kdc = self.process([h.need("krb5kdc"), "-n", *realms, "-P", self.folder / "kdc.pid"], f"kdc{self.port}",
                                self.port, env=self.env)

    def stop(self):
        """From now on there is no KDC."""
        self.kdc.stop()

    def keytab(self, name, realm=None):
        """The file with the key of a user, or of all services ("rcmd")."""
        return self.folder / f"{name}.{realm or self.realms[0]}.keytab"

    def ccache(self, name, realm=None, life=None):
        """A file with a ticket for this user; with life "1s" it is soon of no use."""
        realm = realm or self.realms[0]
        path = self.folder / f"{name}.{realm}.{life or 'long'}.ccache"
        self._do("kinit", *(["-l", life] if life else []), "-k", "-t", self.keytab(name, realm), "-c", f"FILE:{path}", f"{name}@{realm}")
        return path

    def wait_expired(self, ccache):
        """Until nobody takes its ticket: to the library it is good to the end of the second in which it expires."""
        h.wait_until("the ticket to expire", lambda: subprocess.run(
            [h.need("klist"), "-s", "-c", ccache], env={**h.os.environ, **self.env}, timeout=h.DEADLINE * h.SLOW).returncode != 0)
        expired = int(time.time())
        h.wait_until("that second to be over", lambda: time.time() > expired + 1)

    def change_key(self, *services):
        """Tickets given out from now on are for keys that no keytab has."""
        self._do("kadmin.local", "-r", self.realms[0], text="".join(f"change_password -randkey {s}\n" for s in services or SERVICES))

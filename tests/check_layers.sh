#!/bin/sh
# check_layers: no file includes a header of a room above its own or beside it.
#
#   tests/check_layers.sh              proves that it can fail, then checks the tree that it lies in
#   tests/check_layers.sh TREE         checks that tree
#   tests/check_layers.sh --self-test  only the proof
#
# floors() is the table of the house: a room, and what its files may include besides their own room:
# "room/" is all of a room, "room/file.h" just that header. Where the tree has an ARCHITECTURE.md,
# the column "may include" of its table must say the same in backticks, as "`base/ policy/`", or "-"
# for nothing. router/main.c is the roof: it includes what it likes.
# Tests are not looked at: one that reaches up does not link.
set -eu

floors()
{
	cat <<-'END'
	base
	socks base/base.h base/buffer.h base/endpoint.h base/reader.h
	policy base/ socks/command.h
	dns base/ policy/
	upstream base/ socks/ policy/ dns/
	router base/ socks/ policy/ dns/ upstream/
	admin base/ policy/ socks/command.h socks/verdict.h upstream/fleet.h router/control.h
	END
}

# Prints FILE:LINE: what is wrong, for each wrong include of the files given; $table is the table.
check_includes()
{
	awk -v table="$table" '
	BEGIN {
		n = split(table, rows, "\n")
		for (i = 1; i <= n; i++) {
			n_words = split(rows[i], words, " ")
			rooms[words[1]] = 1
			for (j = 2; j <= n_words; j++)
				may[words[1], words[j]] = 1
		}
	}
	function wrong(text) {
		printf "%s:%d: %s\n", FILENAME, FNR, text
		bad = 1
	}
	/^[ \t]*#[ \t]*include[ \t]*["<]/ {
		split(FILENAME, parts, "/")
		room = parts[1]
		quoted = $0 ~ /include[ \t]*"/
		header = $0
		sub(/^[ \t]*#[ \t]*include[ \t]*["<]/, "", header)
		sub(/[">].*/, "", header)
		split(header, parts, "/")
		to = parts[1]
		if (FILENAME == "router/main.c")
			next
		if (!quoted && !(to in rooms) && header !~ /^\.\.?\//)
			next
		if (!(to in rooms) || header ~ /(^|\/)\.\.?\//)
			wrong("\"" header "\" is not named from the top of the tree")
		else if (to != room && !((room, to "/") in may) && !((room, header) in may))
			wrong(room "/ may not include \"" header "\"")
	}
	END { exit bad }
	' "$@"
}

# Holds the column "may include" of ARCHITECTURE.md against the table.
check_table()
{
	awk -v table="$table" '
	BEGIN {
		n = split(table, rows, "\n")
		for (i = 1; i <= n; i++) {
			room = rows[i]
			sub(/ .*/, "", room)
			want[room] = rows[i] ~ / / ? "`" substr(rows[i], length(room) + 2) "`" : "-"
		}
	}
	/^\| *`[a-z]+\/` *\|/ {
		n = split($0, cells, "|")
		room = cells[2]
		gsub(/[ `\/]/, "", room)
		cell = cells[5]
		gsub(/^ +| +$/, "", cell)
		if (!(room in want)) {
			printf "%s:%d: %s/ is not in tests/check_layers.sh\n", FILENAME, FNR, room
			bad = 1
		} else if (cell != want[room]) {
			printf "%s:%d: %s/ may include %s here, %s in tests/check_layers.sh\n",
			    FILENAME, FNR, room, cell, want[room]
			bad = 1
		}
		seen[room] = 1
	}
	END {
		for (room in want) {
			if (!(room in seen)) {
				printf "%s: the table has no row for %s/\n", FILENAME, room
				bad = 1
			}
		}
		exit bad
	}
	' ARCHITECTURE.md
}

# In a subshell of its own, as it changes directory.
check_tree()
(
	cd "$1"
	table=$(floors)
	rooms=$(printf '%s\n' "$table" | cut -d ' ' -f 1)
	status=0
	for room in $rooms; do
		if [ -z "$(find "$room" -name '*.[ch]' 2>/dev/null | head -n 1)" ]; then
			echo "$room/: no source files: is this the tree?"
			exit 1
		fi
	done
	files=$(find $rooms -name '*.[ch]' | sort)
	# The names of our files hold no blanks.
	check_includes $files || status=1
	if [ -f ARCHITECTURE.md ]; then
		check_table || status=1
	fi
	n=$(printf '%s\n' "$files" | wc -l)
	[ $status -ne 0 ] || echo "check_layers: $n files, no include goes up"
	exit $status
)

# A small tree in which everything is right.
make_tree()
{
	rm -rf "$1"
	floors | while read -r room headers; do
		mkdir -p "$1/$room"
		echo "#include \"$room/own.h\"" > "$1/$room/a.c"
	done
	echo '#include "admin/http.h"' > "$1/router/main.c"
}

# expect NAME right|wrong: what the tree at $tree must be found to be.
expect()
{
	n_cases=$((n_cases + 1))
	found=right
	output=$(check_tree "$tree") || found=wrong
	if [ $found != "$2" ]; then
		echo "check_layers: self-test: $1: should be $2"
		printf '%s\n' "$output"
		exit 1
	fi
}

# expect_line right|wrong FILE LINE: the small tree with one more line.
expect_line()
{
	make_tree "$tree"
	printf '%s\n' "$3" >> "$tree/$2"
	expect "$2: $3" "$1"
}

write_table()
{
	echo '| room | does | libraries | may include | never |'
	floors | while read -r room headers; do
		[ -z "$headers" ] && headers=- || headers="\`$headers\`"
		echo "| \`$room/\` | something | none | $headers | anything |"
	done
}

self_test()
{
	tree=$(mktemp -d)
	trap 'rm -rf "$tree"' EXIT
	n_cases=0
	expect_line right base/a.c '#include <string.h>'
	expect_line wrong base/a.c '#include "socks/command.h"'
	expect_line wrong base/a.c '  #  include "policy/policy.h" /* why not */'
	expect_line wrong base/a.c '#include <router/control.h>'
	expect_line wrong base/a.c '#include "own.h"'
	expect_line wrong base/a.c '#include "../router/control.h"'
	expect_line wrong base/a.c '#include <../router/control.h>'
	expect_line wrong base/a.c '#include "base/../router/control.h"'
	expect_line right base/a.c ' * #include "router/control.h" is what others write'
	expect_line wrong base/new.h '#include "dns/resolver.h"'
	expect_line right socks/a.c '#include "base/endpoint.h"'
	expect_line wrong socks/a.c '#include "base/log.h"'
	expect_line wrong socks/a.c '#include "policy/policy.h"'
	expect_line right policy/a.c '#include "socks/command.h"'
	expect_line wrong policy/a.c '#include "socks/server.h"'
	expect_line wrong dns/a.c '#include "socks/command.h"'
	expect_line right upstream/a.c '#include "dns/resolver.h"'
	expect_line wrong upstream/a.c '#include "router/control.h"'
	expect_line right router/a.c '#include "upstream/dialer.h"'
	expect_line wrong router/a.c '#include "admin/http.h"'
	expect_line right admin/a.c '#include "router/control.h"'
	expect_line wrong admin/a.c '#include "router/session.h"'
	expect_line right router/main.c '#include "admin/command.h"'
	make_tree "$tree"
	rm -r "$tree/dns"
	expect 'a room is missing' wrong
	make_tree "$tree"
	write_table > "$tree/ARCHITECTURE.md"
	expect 'the same table' right
	write_table | sed 's,`base/ policy/`,`base/`,' > "$tree/ARCHITECTURE.md"
	expect 'another table' wrong
	write_table | grep -v '^| `dns/`' > "$tree/ARCHITECTURE.md"
	expect 'a table without a room' wrong
	write_table > "$tree/ARCHITECTURE.md"
	echo '| `attic/` | things | none | `base/` | - |' >> "$tree/ARCHITECTURE.md"
	expect 'a table with a room too many' wrong
	echo "check_layers: self-test: $n_cases cases"
}

case ${1-} in
--self-test) self_test ;;
'') (self_test) && check_tree "$(dirname "$0")/.." ;;
*) check_tree "$1" ;;
esac

#!/bin/sh
# check_links.sh DIRECTORY: whatever a paper in it links to is there too. For `make installcheck`: the sources' own are a test's.
set -eu
cd "$1"
papers=$(find . -name '*.md')
[ -n "$papers" ] || { echo "no papers in $1"; exit 1; }
missing=
for paper in $papers; do
	for to in $(grep -o '](\([^)#: ]*\)[)#]' "$paper" | sed 's/^](//; s/[)#]$//'); do
		[ -e "$(dirname "$paper")/$to" ] || missing="$missing $paper:$to"
	done
done
[ -z "$missing" ] || { echo "links that lead nowhere:$missing"; exit 1; }

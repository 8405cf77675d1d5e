#!/bin/sh
# What the custom bouncer runs: "add VALUE SECONDS REASON JSON" or "del …". Notes it, and tells nginx.
printf '%s %s %s\n' "$1" "$2" "$3" >>@FOLDER@/ban.log
case $1 in
add) printf 'deny %s;\n' "$2" >>@FOLDER@/deny.conf ;;
del) grep -vxF "deny $2;" @FOLDER@/deny.conf >@FOLDER@/deny.new; mv @FOLDER@/deny.new @FOLDER@/deny.conf ;;
esac
@NGINX@ -p @FOLDER@ -e @FOLDER@/error.log -c @FOLDER@/nginx.conf -s reload

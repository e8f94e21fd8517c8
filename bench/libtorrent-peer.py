"""A BitTorrent peer for the crowd benchmark to be compared with; nothing of Shoal runs it otherwise. Needs Debian's python3-libtorrent.

make FILE TORRENT                     writes a torrent with pieces of 1 MiB
run TORRENT FOLDER seed|get UP DOWN   one session on loopback, with caps in bytes a second; JSON lines: commands in, answers out.
                                      Asks for no piece before "begin". Ends when standard input does

Rate limits hold on loopback too: the class of local peers, which libtorrent exempts, is replaced by the global one.
"""
import json
import os
import sys
import threading
import time

import libtorrent as lt

MIB = 1 << 20


def say(**value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def make(source, target):
    files = lt.file_storage()
    lt.add_files(files, source)
    torrent = lt.create_torrent(files, MIB, lt.create_torrent.v1_only)
    lt.set_piece_hashes(torrent, os.path.dirname(source))
    with open(target, "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def open_session(up, down):
    session = lt.session({
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": False,
        "enable_incoming_utp": False,
        "allow_multiple_connections_per_ip": True,
        "rate_limit_ip_overhead": False,
        "mixed_mode_algorithm": 0,  # prefer_tcp: no throttling of one transport for the other
        "connection_speed": 200,
        "close_redundant_connections": False,  # two that ask for nothing yet would part again
        "upload_rate_limit": up,
        "download_rate_limit": down,
        "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
    })
    everywhere = lt.ip_filter()
    everywhere.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    session.set_peer_class_filter(everywhere)
    return session


def answer(handle, command):
    if "connect" in command:
        for port in command["connect"]:
            handle.connect_peer(("127.0.0.1", port))
    elif "begin" in command:
        handle.unset_flags(lt.torrent_flags.upload_mode)
    elif "status" in command:
        status = handle.status()
        say(
            status=True,
            peers=sum(1 for peer in handle.get_peer_info() if not peer.flags & (lt.peer_info.handshake | lt.peer_info.connecting)),
            bytesOut=status.total_upload,
            payloadOut=status.total_payload_upload,
            bytesIn=status.total_download,
            wastedBytes=status.total_redundant_bytes + status.total_failed_bytes,
        )


def run(torrent, folder, role, up, down):
    session = open_session(up, down)
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.flags |= lt.torrent_flags.seed_mode if role == "seed" else lt.torrent_flags.upload_mode
    handle = session.add_torrent(params)
    while session.listen_port() == 0:
        time.sleep(0.02)
    say(port=session.listen_port())

    def listen():
        for line in sys.stdin:
            answer(handle, json.loads(line))
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        session.wait_for_alert(60_000)
        for alert in session.pop_alerts():
            if role == "get" and isinstance(alert, lt.torrent_finished_alert):
                handle.flush_cache()
                say(finished=True)
            elif isinstance(alert, (lt.torrent_error_alert, lt.file_error_alert)):
                say(error=alert.message())


if sys.argv[1] == "make":
    make(sys.argv[2], sys.argv[3])
else:
    run(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))

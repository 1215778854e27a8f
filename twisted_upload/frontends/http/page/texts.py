"""
The texts of the page, in each of its languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["LANGUAGES", "language_for"]

_ENGLISH = {
    "title": "Upload files",
    "choose": "Choose files",
    "choose_folder": "Choose a folder",
    "take_photo": "Take a photo",
    "hint": "or drop them anywhere on this page, or paste",
    "send": "Upload",
    "token": "Access token",
    "go_on": "Continue",
    "copy_all": "Copy all",
    "total": "All files",
    "waiting": "waiting",
    "sending": "sending",
    "storing": "sent; the server is storing it",
    "progress": "{percent} % · {sent} · {rate}/s · {left} left",
    "paused": "paused",
    "broken": "{reason}; trying again in {seconds} s",
    "stored": "stored",
    "stored as": "stored as {name}",
    "cancelled": "cancelled",
    "failed": "not stored: {reason}",
    "pause": "Pause",
    "resume": "Resume",
    "retry": "Try again",
    "cancel": "Cancel",
    "dismiss": "Remove",
    "copy": "Copy",
    "copy what": "Copy name and SHA-256",
    "copied": "Copied",
    "summary": "{stored} of {all} stored",
    "summary failed": "{stored} of {all} stored, {failed} failed",
    "unfinished": "Not finished: {names}. Choose the same files again to go on where they stopped.",
    "unfinished more": (
        "Not finished: {names}, and {more} more. Choose the same files again to go on where they"
        " stopped."
    ),
    "discard": "Discard",
    "for": "For {label}",
    "at most": "up to {size} per file",
    "uploads": "files left: {uploads}",
    "until": "until {time}",
    "secret": "To upload here, you need a link or an access token.",
    "status": "the server answered {status}",
    "too large": "larger than {size}, which is the most that this server accepts",
    "used up": "this link has been used as often as it allows",
    "code no connection": "no connection to the server",
    "code changed": "it cannot be read, or has changed; choose it again",
    "code too-large": "larger than this server accepts",
    "code no-space": "the server has no space left",
    "code empty": "the file is empty",
    "code unauthorized": "This link or token is not valid, or has expired. Ask for a new one.",
    "code not-allowed": "you may not upload here, or not any more",
    "code busy": "the server is busy",
    "code timeout": "the connection was too slow",
    "code shutting-down": "the server is restarting",
    "code store-error": "the server could not store it",
    "results": "Result",
    "again": "Upload more files",
    "nothing": "None of the files was stored: they are stored together, or not at all.",
    "is_stored": "stored as {name} ({size})",
    "is_refused": "not stored: {reason}",
}

_CHINESE = {
    "title": "上传文件",
    "choose": "选择文件",
    "choose_folder": "选择文件夹",
    "take_photo": "拍照",
    "hint": "也可以把文件拖到页面任意位置，或直接粘贴",
    "send": "上传",
    "token": "访问令牌",
    "go_on": "继续",
    "copy_all": "全部复制",
    "total": "全部文件",
    "waiting": "等待中",
    "sending": "正在上传",
    "storing": "已发送，服务器正在保存",
    "progress": "{percent}% · {sent} · {rate}/秒 · 剩余 {left}",
    "paused": "已暂停",
    "broken": "{reason}，{seconds} 秒后重试",
    "stored": "上传成功",
    "stored as": "上传成功：{name}",
    "cancelled": "已取消",
    "failed": "上传失败：{reason}",
    "pause": "暂停",
    "resume": "继续",
    "retry": "重试",
    "cancel": "取消",
    "dismiss": "移除",
    "copy": "复制",
    "copy what": "复制文件名和 SHA-256",
    "copied": "已复制",
    "summary": "共 {all} 个，成功 {stored} 个",
    "summary failed": "共 {all} 个，成功 {stored} 个，失败 {failed} 个",
    "unfinished": "尚未完成：{names}。重新选择相同的文件，即可从中断处继续。",
    "unfinished more": "尚未完成：{names}，另有 {more} 个。重新选择相同的文件，即可从中断处继续。",
    "discard": "放弃",
    "for": "{label} 专用",
    "at most": "每个文件不超过 {size}",
    "uploads": "还可上传 {uploads} 个文件",
    "until": "有效期至 {time}",
    "secret": "上传需要邀请链接或访问令牌。",
    "status": "服务器返回 {status}",
    "too large": "文件超过 {size}，服务器不接受",
    "used up": "此链接的上传次数已用完",
    "code no connection": "无法连接服务器",
    "code changed": "文件无法读取或已被修改，请重新选择",
    "code too-large": "文件超过服务器允许的大小",
    "code no-space": "服务器空间不足",
    "code empty": "文件为空",
    "code unauthorized": "链接或令牌无效或已过期，请重新获取。",
    "code not-allowed": "无权在此上传，或权限已失效",
    "code busy": "服务器繁忙",
    "code timeout": "连接太慢",
    "code shutting-down": "服务器正在重启",
    "code store-error": "服务器未能保存文件",
    "results": "结果",
    "again": "继续上传",
    "nothing": "没有保存任何文件：这些文件要么全部保存，要么全部不保存。",
    "is_stored": "上传成功：{name}（{size}）",
    "is_refused": "上传失败：{reason}",
}

LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": _ENGLISH, "zh": _CHINESE}
"""The texts by language; the first language is for everyone who wants none of them."""

_LONGEST = 1000
_RANGE = re.compile(r"([a-zA-Z]{1,8}|\*)(?:-[a-zA-Z0-9-]*)?(?:\s*;\s*q=([01](?:\.[0-9]{0,3})?))?\Z")


def language_for(accepted: str) -> str:
    """
    Return the language for a reader.

    :param accepted: the value of ``Accept-Language``: RFC 9110, section 12.5.4.
    """
    best, language = 0.0, next(iter(LANGUAGES))
    for entry in accepted[:_LONGEST].split(","):
        found = _RANGE.match(entry.strip())
        if found is None:
            continue
        name, quality = found[1].lower(), float(found[2] or 1)
        if name in LANGUAGES and quality > best:
            best, language = quality, name
    return language
